"""The lists of the mail policy as pages describe them: fields, filters, columns; one line each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.api.mail_security.badwords import BADWORDS_API
from controlplane.api.mail_security.item_routes import ItemApi
from controlplane.api.mail_security.lists import ALLOWLIST_API, BLOCKLIST_API
from controlplane.api.mail_security.rates import RATES_API
from controlplane.gui.forms import Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.policy_words import (
    ANY,
    SEVERITY_FILTER,
    SEVERITY_OPTIONS,
    VERDICT_OPTIONS,
)
from controlplane.store.policy_kinds import BADWORDS, BY_SECTION, RATES, Kind
from nodeagent.policy.document import BadwordCategory, Listing, RateSubject, RateWindow, SectionKind
from nodeagent.policy.model import Verdict

SEARCH: Final = Field("search", N_("Search"), attributes={"maxlength": "320"})
NEVER_FILLED: Final = {"autocomplete": "off"}
CATEGORIES: Final = (
    Option(BadwordCategory.SPAM.value, N_("spam")),
    Option(BadwordCategory.ADULT.value, N_("adult content")),
    Option(BadwordCategory.PHISHING.value, N_("phishing")),
    Option(BadwordCategory.MALWARE.value, N_("malware")),
    Option(BadwordCategory.CUSTOM.value, N_("own")),
)
SUBJECTS: Final = (
    Option(RateSubject.CLIENT.value, N_("client address")),
    Option(RateSubject.SENDER.value, N_("sender")),
    Option(RateSubject.LOGIN.value, N_("login")),
    Option(RateSubject.RECIPIENT_DOMAIN.value, N_("recipient domain")),
)
WINDOWS: Final = (
    Option(RateWindow.MINUTE.value, N_("a minute")),
    Option(RateWindow.HOUR.value, N_("an hour")),
    Option(RateWindow.DAY.value, N_("a day")),
)
LISTINGS: Final = (
    Option(Listing.BLOCK.value, N_("blocklist")),
    Option(Listing.ALLOW.value, N_("allowlist")),
)
IS_ENABLED: Final = Field("is_enabled", N_("Switched on"), widget=Widget.CHECKBOX)


@dataclass(frozen=True)
class PolicyList:
    """One list: what its page says, what an entry's form asks, which columns it shows.

    `parts` are the lists that share the page; `part` is the column that tells them apart. Columns
    that are options are shown in their words.
    """

    name: str
    kind: Kind
    parts: Mapping[str, ItemApi]
    title: str
    lead: str
    add: str
    empty: str
    fields: tuple[Field, ...]
    filters: Form
    columns: tuple[tuple[str, str], ...]
    defaults: Mapping[str, Any]
    part: Field | None = None

    @property
    def path(self) -> str:
        """Where its pages are."""
        return f"/policy/{self.name}"

    @property
    def has_switch(self) -> bool:
        """Tell whether an entry can be switched off."""
        return IS_ENABLED in self.fields

    def form(self, *, is_new: bool) -> Form:
        """Return the form; on which list an entry stands is said once."""
        return Form((self.part, *self.fields) if is_new and self.part else self.fields)

    def words_of(self, name: str) -> Mapping[str, str]:
        """Return the words of a column's options."""
        fields = (self.part, *self.fields) if self.part else self.fields
        return {
            option.value: option.label
            for one in fields
            if one.name == name
            for option in one.options
        }


def _select(name: str, label: str, options: tuple[Option, ...], hint: str = "") -> Field:
    return Field(name, label, hint=hint, widget=Widget.SELECT, options=options)


ENTRIES: Final = PolicyList(
    "lists",
    BY_SECTION[SectionKind.LIST],
    {Listing.BLOCK.value: BLOCKLIST_API, Listing.ALLOW.value: ALLOWLIST_API},
    title=N_("Block and allow"),
    lead=N_("Addresses, networks and domains that are refused or spared; the allowlist wins."),
    add=N_("Add an entry"),
    empty=N_("No entry fits."),
    part=_select("listing", N_("List"), LISTINGS),
    fields=(
        Field(
            "value",
            N_("Value"),
            hint=N_(
                "IP address, network, example.com, *.example.com, user@example.com or "
                "*@example.com."
            ),
            is_required=True,
            attributes={**NEVER_FILLED, "maxlength": "1000"},
        ),
        Field(
            "reason",
            N_("Reason"),
            hint=N_("Why; shown here and in the audit log. The policy log has the entry's number."),
            attributes={**NEVER_FILLED, "maxlength": "500"},
        ),
        Field(
            "expires_at",
            N_("Expires"),
            hint=N_("From when on it counts no more, as 2027-01-31 14:30; empty: never."),
            attributes=NEVER_FILLED,
        ),
    ),
    filters=Form((_select("listing", N_("List"), (ANY, *LISTINGS)), SEARCH)),
    columns=(
        ("value", N_("Value")),
        ("listing", N_("List")),
        ("reason", N_("Reason")),
        ("expires_at", N_("Expires")),
        ("origin", N_("By")),
    ),
    defaults={"listing": Listing.BLOCK.value},
)
WORDS: Final = PolicyList(
    "words",
    BADWORDS,
    {"": BADWORDS_API},
    title=N_("Bad words"),
    lead=N_("Words and phrases, found in any case between word boundaries, and RE2 patterns."),
    add=N_("Add a bad word"),
    empty=N_("No bad word fits."),
    fields=(
        Field(
            "pattern",
            N_("Word, phrase or pattern"),
            is_required=True,
            attributes={**NEVER_FILLED, "maxlength": "1000"},
        ),
        Field(
            "is_regex",
            N_("Regular expression"),
            hint=N_("In RE2's syntax; one that it does not take is refused."),
            widget=Widget.CHECKBOX,
        ),
        _select(
            "severity",
            N_("Severity"),
            SEVERITY_OPTIONS,
            N_("The settings say what each severity does."),
        ),
        _select("category", N_("Category"), CATEGORIES),
        IS_ENABLED,
    ),
    filters=Form(
        (
            SEARCH,
            _select("severity", N_("Severity"), SEVERITY_FILTER),
            _select("category", N_("Category"), (ANY, *CATEGORIES)),
        )
    ),
    columns=(
        ("pattern", N_("Word, phrase or pattern")),
        ("is_regex", N_("Regular expression")),
        ("severity", N_("Severity")),
        ("category", N_("Category")),
        ("is_enabled", N_("Switched on")),
    ),
    defaults={"severity": "medium", "category": "custom", "is_enabled": True},
)
RATE_LIMITS: Final = PolicyList(
    "rates",
    RATES,
    {"": RATES_API},
    title=N_("Rate limits"),
    lead=N_("How much mail one client, sender, login or recipient domain may send or get."),
    add=N_("Add a rate limit"),
    empty=N_("No rate limit fits: nobody is limited."),
    fields=(
        _select("subject", N_("Whose mail"), SUBJECTS),
        _select("window", N_("In"), WINDOWS),
        Field(
            "limit",
            N_("At most"),
            hint=N_("Messages; for recipient domains, recipients."),
            widget=Widget.NUMBER,
            is_required=True,
            attributes={"min": "1", "max": "2147483647"},
        ),
        _select(
            "verdict",
            N_("Above it"),
            (VERDICT_OPTIONS[Verdict.TEMPFAIL], VERDICT_OPTIONS[Verdict.REJECT]),
        ),
        IS_ENABLED,
    ),
    filters=Form((_select("subject", N_("Whose mail"), (ANY, *SUBJECTS)),)),
    columns=(
        ("subject", N_("Whose mail")),
        ("window", N_("In")),
        ("limit", N_("At most")),
        ("verdict", N_("Above it")),
        ("is_enabled", N_("Switched on")),
    ),
    defaults={"window": "hour", "verdict": "tempfail", "is_enabled": True},
)
POLICY_LISTS: Final = {one.name: one for one in (ENTRIES, WORDS, RATE_LIMITS)}
