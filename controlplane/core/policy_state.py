"""The mail policy's part of a state file: what was set, and no secret.

No digest of the HTTP door's secrets, no key of pseudonyms and no token to unsubscribe is in it: an
import keeps those that are stored. A part that a file does not have stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, Field, NonNegativeInt, create_model

from controlplane.core.policy_drafts import ThreatDraft
from controlplane.core.policy_lists import PolicyList
from controlplane.core.spec import Spec
from nodeagent.policy.document import AuthenticationCheck, HttpDoor, PolicySettings, SenderChecks

MOST_ENTRIES: Final = 10_000
"""Of one list in a state file: it is one document, and its import one transaction."""
MOST_CHANGES: Final = 20_000
"""Of all lists by one import: heartbeats wait for its transaction, up to 0.1 ms an entry."""
FROM_CLUSTER: Final = frozenset({"trusted_networks", "own_domains", "own_names"})
MADE_HERE: Final = frozenset({"pseudonym_key"})
DIGESTS: Final = frozenset({"password_sha256", "token_sha256", "header_sha256"})
"""What of `PolicySettings` no administrator sets."""

Entries = tuple[dict[str, Any], ...]


def _strict(name: str, doc: str, model: type[BaseModel], **sections: type[Spec]) -> type[Spec]:
    """Return the fields of a model that an administrator sets; others are refused."""
    fields: dict[str, Any] = {
        field: (info.annotation, info)
        for field, info in model.model_fields.items()
        if field not in FROM_CLUSTER | MADE_HERE | DIGESTS
    }
    for field, section in sections.items():
        fields[field] = (section, Field(default_factory=section))
    return create_model(name, __base__=Spec, __doc__=doc, **fields)


_CHECK: Final = _strict("AuthenticationCheckState", "One check.", AuthenticationCheck)
PolicySettingsState = _strict(
    "PolicySettingsState",
    "The settings of the mail policy, without secrets.",
    PolicySettings,
    checks=_strict("SenderChecksState", "HELO, sender and recipient checks.", SenderChecks),
    http=_strict("HttpDoorState", "The HTTP door, without its secrets.", HttpDoor),
    spf=_CHECK,
    dkim=_CHECK,
    dmarc=_CHECK,
)


class ThreatRuleState(ThreatDraft):
    """What was changed of one built-in threat rule."""

    rule: str = Field(max_length=60, examples=["html-script"])


class PolicyState(Spec):
    """The mail policy; what is null or not there is left as it is by an import.

    Entries have the fields that the list's own JSON file has. They are checked when the import is
    planned, not before: it takes a millisecond to say that a regular expression is harmless.
    """

    settings: PolicySettingsState | None = None  # type: ignore[valid-type]
    threat_rules: tuple[ThreatRuleState, ...] | None = Field(
        default=None, description="Those that were changed; the others are as they were built."
    )
    blocklist: Entries | None = None
    allowlist: Entries | None = None
    badwords: Entries | None = None
    rates: Entries | None = None
    categories: Entries | None = None
    subscriptions: Entries | None = Field(
        default=None, description="Personal data: who is subscribed to which category."
    )
    left_out: Mapping[PolicyList, NonNegativeInt] = Field(
        default={},
        description="Lists that are not in the file, with how many entries they have: they are "
        f"longer than {MOST_ENTRIES} or were not wanted. Each has an export of its own.",
    )

    def entries(self, name: PolicyList) -> Entries | None:
        """Return the entries of one list; None where the file does not name it."""
        found: Entries | None = getattr(self, name.value)
        return found
