"""What a decision comes to where its changes would leave nobody, or are too many to be made.

An MTA that is told to take all recipients off a mail answers 250 and keeps nothing, and no log
says so: that is a discard, so it becomes one. In the quarantine such a mail keeps its recipients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from nodeagent.policy.engine.categories import Categories
from nodeagent.policy.engine.values import lookup_address
from nodeagent.policy.engine.verdicts import Finding, Wording
from nodeagent.policy.model import (
    AddRecipient,
    Change,
    ChangeHeader,
    Decision,
    DeleteRecipient,
    Envelope,
    Fired,
    RuleKind,
    Verdict,
)

MOST_FORGED: Final = 50
"""Headers that only we may write: an honest mail has none or one, a flood of them costs the MTA."""
FORGED: Final = Finding(
    Fired(
        RuleKind.FAULT,
        "hook:forged-headers",
        f"more than {MOST_FORGED} headers claim to be this relay's own",
        verdict=Verdict.REJECT,
    ),
    Wording("Too many headers of this mail claim to be this relay's own", reject=(550, "5.6.0")),
)


def refusing_forged(decision: Decision, forged: Sequence[ChangeHeader]) -> Decision | None:
    """Return a rejection where more headers are forged than are taken away, else None."""
    if len(forged) <= MOST_FORGED:
        return None
    return Decision(Verdict.REJECT, FORGED.reply, fired=(FORGED.fired, *decision.fired))


def with_somebody(decision: Decision, envelope: Envelope, categories: Categories) -> Decision:
    """Return the decision about an accepted or held mail, a DISCARD where nobody would get it."""
    changes = decision.changes
    if not any(isinstance(change, DeleteRecipient) for change in changes):
        return decision
    if not envelope.recipients or _is_anybody_left(envelope, changes):
        return decision
    if decision.verdict is Verdict.QUARANTINE:
        kept = tuple(one for one in changes if not isinstance(one, DeleteRecipient | AddRecipient))
        return replace(decision, changes=kept)
    because = tuple(dict.fromkeys(_because(decision, envelope, categories)))
    return Decision(Verdict.DISCARD, fired=(*because, *decision.fired))


def _is_anybody_left(envelope: Envelope, changes: tuple[Change, ...]) -> bool:
    """Look from the end, where most additions are; addresses are compared as people mean them."""
    gone: set[str] = set()
    for change in reversed(changes):
        if isinstance(change, DeleteRecipient):
            gone.add(lookup_address(change.address))
        elif isinstance(change, AddRecipient) and lookup_address(change.address) not in gone:
            return True
    return any(lookup_address(one) not in gone for one in envelope.recipients)


def _because(decision: Decision, envelope: Envelope, categories: Categories) -> Iterator[Fired]:
    """Give what took the recipients off: their category, or the plugin that decided."""
    for recipient in envelope.recipients:
        compiled = categories.find(recipient)
        if compiled is not None:
            text = "the category has nobody to give the mail to"
            rule = f"category:{compiled.category.id}"
            yield Fired(RuleKind.CATEGORY, rule, text, verdict=Verdict.DISCARD)
        else:
            plugin = next((one.rule for one in decision.fired if one.kind is RuleKind.PLUGIN), None)
            text = "all recipients of the mail were taken off"
            yield Fired(RuleKind.PLUGIN, plugin or "plugin", text, verdict=Verdict.DISCARD)
