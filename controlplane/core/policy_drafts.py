"""What administrators write into the mail policy's lists, checked and brought into one form.

Each draft is one entry without its id. Values are canonical once a draft exists, so that two
spellings of one address are one entry; a refusal is a sentence beside the field at fault.
"""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_serializer,
    field_validator,
    model_validator,
)

from controlplane.core.spec import Spec
from controlplane.core.times import in_these_years
from nodeagent.policy.document import (
    Badword,
    BadwordCategory,
    Category,
    Posting,
    RateRule,
    RateSubject,
    RateWindow,
    Subscription,
)
from nodeagent.policy.engine.checked_entries import problem_of
from nodeagent.policy.engine.sections import Entry
from nodeagent.policy.engine.values import ANY_LOCAL_PART, canonical_address, list_value
from nodeagent.policy.model import Severity, Verdict

MOST_SENDERS: Final = 1000
Line = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]


def _one_sentence(value: object, check: ValidatorFunctionWrapHandler) -> object:
    """Say what a time looks like, whichever letter is the wrong one."""
    try:
        return check(value)
    except ValidationError as error:
        raise ValueError("A time with its zone is needed, such as 2027-01-31T14:30:00Z") from error


Expiry = Annotated[AwareDatetime, WrapValidator(_one_sentence), AfterValidator(in_these_years)]


class Draft(Spec):
    """Base of all drafts."""


class ListDraft(Draft):
    """An entry of block- or allowlist."""

    value: Annotated[str, StringConstraints(max_length=1000)] = Field(
        description="An IP address, a CIDR network, `example.com`, `*.example.com` (its "
        "subdomains), `user@example.com` or `*@example.com`.",
        examples=["*@example.com"],
    )
    reason: Line = Field(
        default="",
        max_length=500,
        description="Why; in the list and the audit log. The policy log has the entry's number.",
    )
    expires_at: Expiry | None = Field(
        default=None,
        description="From when on it counts no more; null: never.",
        examples=["2027-01-31T00:00:00Z"],
    )

    @field_validator("value")
    @classmethod
    def _canonical(cls, value: str) -> str:
        return list_value(value)


class BadwordDraft(Draft):
    """A word or phrase, found between word boundaries, or a regular expression; in any case."""

    pattern: Line = Field(
        min_length=1,
        max_length=1000,
        description="RE2's syntax when `is_regex`.",
        examples=["viagra"],
    )
    is_regex: bool = False
    severity: Severity = Field(
        default=Severity.MEDIUM, description="The settings say what each severity does."
    )
    category: BadwordCategory = BadwordCategory.CUSTOM
    is_enabled: bool = True

    @model_validator(mode="after")
    def _compiles(self) -> Self:
        _check(Badword(id=1, **self.model_dump()))
        return self


class RateDraft(Draft):
    """At most `limit` messages (recipients, for `recipient-domain`) in any window."""

    subject: RateSubject = Field(description="Whose mails are counted.")
    window: RateWindow = Field(description="How long back.")
    limit: int = Field(ge=1, lt=2**31, examples=[100])
    verdict: Verdict = Field(
        default=Verdict.TEMPFAIL, description="What happens above it: `tempfail` or `reject`."
    )
    is_enabled: bool = True

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        _check(RateRule(id=1, **self.model_dump()))
        return self


class ThreatDraft(Draft):
    """What is changed of one built-in threat rule."""

    is_enabled: bool = True
    score: float | None = Field(default=None, ge=0, le=1000, description="Null: the rule's own.")


class CategoryDraft(Draft):
    """An address that stands for its subscribers."""

    address: Annotated[str, StringConstraints(max_length=1000)] = Field(
        description="Mail to it goes to each subscriber. If its domain is no recipient domain,"
        " Postfix takes its mail from the next apply on.",
        examples=["news@example.com"],
    )
    name: Line = Field(default="", max_length=100, description="As `List-Id` shows it.")
    posting: Posting = Field(default=Posting.SUBSCRIBERS, description="Who may write to it.")
    allowed_senders: tuple[str, ...] = Field(
        default=(),
        max_length=MOST_SENDERS,
        description="Who may always write: addresses, or `*@example.com`.",
    )
    is_enabled: bool = True

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return _mailbox(value)

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        _check(Category(id=1, **self.model_dump()))
        return self

    @field_validator("allowed_senders", mode="before")
    @classmethod
    def _of_a_cell(cls, values: object) -> object:
        return values.split() if isinstance(values, str) else values

    @field_validator("allowed_senders")
    @classmethod
    def _senders(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_sender(value) for value in values))

    @field_serializer("allowed_senders")
    def _as_list(self, values: tuple[str, ...]) -> list[str]:
        return list(values)


class SubscriptionDraft(Draft):
    """A subscriber of a category."""

    address: Annotated[str, StringConstraints(max_length=1000)] = Field(
        examples=["reader@example.net"]
    )

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        address = _mailbox(value)
        _check(Subscription(id=1, category=1, address=address, token=16 * "-"))
        return address


class NamedSubscriptionDraft(SubscriptionDraft):
    """A subscriber, and of what."""

    category: Annotated[str, StringConstraints(max_length=1000)] = Field(
        description="The category's address.", examples=["news@example.com"]
    )

    @field_validator("category")
    @classmethod
    def _category(cls, value: str) -> str:
        return _mailbox(value)


def _check(entry: Entry) -> None:
    problem = problem_of(entry)
    if problem is not None:
        raise ValueError(problem.rstrip("."))


def _mailbox(text: str) -> str:
    address = canonical_address(text.strip())
    if not address:
        raise ValueError("The address is empty")
    if len(address) > 320:  # noqa: PLR2004 - as `document.Value`
        raise ValueError("The address is longer than 320 characters")
    return address


def _sender(text: str) -> str:
    value = list_value(text[:1000])
    if "@" in value:
        return value
    try:
        list_value(f"{ANY_LOCAL_PART}{value}")
    except ValueError:  # a network, or subdomains: nothing to advise
        raise ValueError(f'"{value}" has no "@"') from None
    raise ValueError(f'"{value}" is no address; write "*@{value}" for all of a domain')
