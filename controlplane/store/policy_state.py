"""The mail policy's part of a state file: written from one snapshot, planned against another.

Theory of operation. Entries are checked outside of any transaction, because a regular expression
takes a millisecond. What they change is planned in one snapshot. All rows, the settings and the
packed sections are then written in the one transaction of the import, so that nodes go from one
policy to the other in one revision; that is why a list has a longest length, here and in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import select
from sqlmodel import Session

from controlplane.core.csv_lists import first_sentence
from controlplane.core.names import BadValue
from controlplane.core.policy_checks import NO_DATA, without_data
from controlplane.core.policy_drafts import NamedSubscriptionDraft, ThreatDraft
from controlplane.core.policy_lists import PolicyList
from controlplane.core.policy_state import (
    DIGESTS,
    FROM_CLUSTER,
    MADE_HERE,
    MOST_CHANGES,
    MOST_ENTRIES,
    PolicySettingsState,
    PolicyState,
    ThreatRuleState,
)
from controlplane.errors import Invalid
from controlplane.store import policy_items
from controlplane.store.list_imports import MAX_SENTENCES, Plan
from controlplane.store.policy_items import AT_ONCE, Row, differs, scope_of
from controlplane.store.policy_kinds import (
    ALLOWLIST,
    BADWORDS,
    BLOCKLIST,
    CATEGORIES,
    RATES,
    SUBSCRIPTIONS,
    Kind,
    new_token,
)
from controlplane.store.policy_revision import read_edits
from controlplane.store.policy_settings import (
    has_categories,
    read_policy_settings,
    replace_settings,
)
from controlplane.store.policy_subscriptions import with_addresses
from controlplane.store.policy_tables import ThreatSettingRow
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.threats import THREAT_RULES

KINDS: Final[Mapping[PolicyList, Kind]] = {
    PolicyList.BLOCKLIST: BLOCKLIST,
    PolicyList.ALLOWLIST: ALLOWLIST,
    PolicyList.BADWORDS: BADWORDS,
    PolicyList.RATES: RATES,
    PolicyList.CATEGORIES: CATEGORIES,
    PolicyList.SUBSCRIPTIONS: SUBSCRIPTIONS,
}
"""Categories come before what names them."""
Values = Mapping[str, Any]


@dataclass(frozen=True)
class CheckedPolicy:
    """A file's policy with its entries in the form of their rows, by what people call them."""

    file: PolicyState
    lists: Mapping[PolicyList, Mapping[str, Values]]
    problems: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ItemPlan(Plan):
    """The plan of one list; `numbers` are the ids of what is removed."""

    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class PolicyPlan:
    """What a file's policy changes; `edits` says of which policy."""

    edits: int
    before: PolicySettings
    after: PolicySettings
    threat_rules: Plan
    lists: Mapping[PolicyList, ItemPlan]
    problems: Mapping[str, str] = field(default_factory=dict)

    @property
    def plans(self) -> dict[str, Plan]:
        """The lists that change, by their place in the file."""
        named: dict[str, Plan] = {"policy.threat_rules": self.threat_rules}
        named |= {f"policy.{name}": plan for name, plan in self.lists.items()}
        return {name: plan for name, plan in named.items() if not plan.is_empty}

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing changes."""
        return self.before == self.after and not self.plans


def read_policy(session: Session, *, with_subscriptions: bool = True) -> PolicyState:
    """Return the policy as a file has it; what is too long, or not wanted, is only counted."""
    counts = {name: policy_items.count(session, kind) for name, kind in KINDS.items()}
    left_out = {
        name: count
        for name, count in counts.items()
        if count > MOST_ENTRIES or (name is PolicyList.SUBSCRIPTIONS and not with_subscriptions)
    }
    settings = read_policy_settings(session).model_dump(exclude=set(FROM_CLUSTER | MADE_HERE))
    settings["http"] = {
        field: value for field, value in settings["http"].items() if field not in DIGESTS
    }
    rules = session.execute(select(ThreatSettingRow).order_by(ThreatSettingRow.rule)).scalars()
    lists = {
        name.value: [_entry(name, row) for row in _read_rows(session, name)]
        for name in KINDS
        if name not in left_out
    }
    return PolicyState(
        settings=PolicySettingsState.model_validate(settings),
        threat_rules=tuple(ThreatRuleState(**row.model_dump()) for row in rules),
        **lists,
        left_out=left_out,
    )


def check_policy(file: PolicyState) -> CheckedPolicy:
    """Return the entries of a file in the form of rows, and a sentence for what cannot be used."""
    problems: dict[str, str] = {}
    lists: dict[PolicyList, Mapping[str, Values]] = {}
    for name in KINDS:
        entries = file.entries(name)
        if entries is not None and len(entries) > MOST_ENTRIES:
            problems[f"policy.{name}"] = (
                f"It has {len(entries)} entries, more than the {MOST_ENTRIES} that a state file "
                "takes of a list; take it out of this file and import it by a file of its own."
            )
        elif entries is not None:
            values = ((place, _checked(name, entry)) for place, entry in enumerate(entries, 1))
            lists[name] = _by_name(name, values, partial(name_of, name), problems)
    return CheckedPolicy(file, lists, problems)


def plan_policy(session: Session, checked: CheckedPolicy) -> PolicyPlan:
    """Return what a file's policy would change, and its problems; nothing is changed."""
    problems = dict(checked.problems)
    before = after = read_policy_settings(session)
    if checked.file.settings is not None:
        try:
            after = replace_settings(before, checked.file.settings.model_dump(mode="json"))
        except Invalid as error:
            problems |= {f"policy.settings.{name}": said for name, said in error.fields.items()}
    lists: dict[PolicyList, ItemPlan] = {}
    for name, wanted in checked.lists.items():
        present = policy_items.count(session, KINDS[name])
        if present > MOST_ENTRIES:
            problems[f"policy.{name}"] = (
                f"There are {present} entries, more than the {MOST_ENTRIES} that an import of a "
                "state replaces; take it out of this file and import it by a file of its own."
            )
        else:
            lists[name] = _plan_list(name, _read_rows(session, name), wanted)
    _plan_stages(session, checked, after, problems)
    _plan_owned(session, lists, problems)
    _name_strangers(session, checked, problems)
    rules = _plan_rules(session, checked.file.threat_rules, problems)
    changes = sum(len(one.added) + len(one.changed) + len(one.removed) for one in lists.values())
    if changes > MOST_CHANGES:
        problems["policy"] = (
            f"It would change {changes} entries at once, more than {MOST_CHANGES}; take the "
            "longest lists out of this file and import them by files of their own."
        )
    return PolicyPlan(read_edits(session), before, after, rules, lists, problems)


def name_of(name: PolicyList, values: Values) -> str:
    """Return what people call an entry; no two of a list are called the same."""
    if name is PolicyList.BADWORDS:
        return f"{'regex' if values['is_regex'] else 'word'} {values['pattern']}"
    if name is PolicyList.RATES:
        return f"{values['subject']} {values['window']}"
    if name is PolicyList.SUBSCRIPTIONS:
        return f"{values['category']} {values['address']}"
    return str(values[KINDS[name].searched])


def _entry(name: PolicyList, row: Row) -> dict[str, Any]:
    fields = NamedSubscriptionDraft if name is PolicyList.SUBSCRIPTIONS else KINDS[name].draft
    entry = {field: row[field] for field in fields.model_fields}
    if entry.get("expires_at") is not None:
        expires_at = datetime.fromtimestamp(entry["expires_at"], UTC)
        entry["expires_at"] = expires_at.isoformat().replace("+00:00", "Z")
    return entry


def _read_rows(session: Session, name: PolicyList, *conditions: Any) -> list[Row]:
    """Return the entries of one list, the oldest first; a subscription's category by address."""
    kind = KINDS[name]
    statement = select(*kind.columns).where(*scope_of(kind), *conditions).order_by(kind.columns.id)
    rows: list[Row] = [dict(row) for row in session.execute(statement).mappings()]
    return with_addresses(session, rows) if name is PolicyList.SUBSCRIPTIONS else rows


def _checked(name: PolicyList, entry: Values) -> Values | BadValue:
    """Return the values of an entry's row, a subscription's category by its address."""
    kind = KINDS[name]
    try:
        if name is PolicyList.SUBSCRIPTIONS:
            named = NamedSubscriptionDraft.model_validate(entry)
            return {**named.model_dump(), "token": new_token()}
        return {**kind.to_values(kind.draft.model_validate(entry)), **kind.scope}
    except ValidationError as error:
        return BadValue(first_sentence(error).encode(errors="backslashreplace").decode()[:500])
    except BadValue as bad:
        return bad


def _by_name(
    name: str,
    found: Iterable[tuple[int, Any]],
    called: Callable[[Any], str],
    problems: dict[str, str],
) -> dict[str, Any]:
    """Return what can be used by its name; what cannot, or is there twice, is a problem."""
    wanted: dict[str, Any] = {}
    wrong = 0
    for place, value in found:
        sentence = str(value) if isinstance(value, BadValue) else ""
        if not sentence and (key := called(value)) in wanted:
            sentence = f'"{key}" is there already.'
        if not sentence:
            wanted[key] = value
            continue
        wrong += 1
        if wrong <= MAX_SENTENCES:
            problems[f"policy.{name} entry {place}"] = sentence
    if wrong > MAX_SENTENCES:
        problems[f"policy.{name}"] = f"{wrong} entries cannot be used."
    return wanted


def _plan_list(name: PolicyList, rows: Sequence[Row], wanted: Mapping[str, Values]) -> ItemPlan:
    present = {name_of(name, row): row for row in rows}
    gone = sorted(present.keys() - wanted.keys())
    is_changed = {
        key: key in present
        and name is not PolicyList.SUBSCRIPTIONS
        and differs(KINDS[name], present[key], values)
        for key, values in wanted.items()
    }
    return ItemPlan(
        added={key: values for key, values in wanted.items() if key not in present},
        changed={key: values for key, values in wanted.items() if is_changed[key]},
        removed=tuple(gone),
        present=len(present),
        numbers=tuple(present[key]["id"] for key in gone),
    )


def _plan_stages(
    session: Session, checked: CheckedPolicy, after: PolicySettings, problems: dict[str, str]
) -> None:
    """Find doors that would leave out DATA while there would be categories."""
    wanted = checked.lists.get(PolicyList.CATEGORIES)
    if not (has_categories(session) if wanted is None else wanted):
        return
    for field_name, said in without_data(after).items():
        if checked.file.settings is None:
            problems["policy.categories"] = NO_DATA
        else:
            problems[f"policy.settings.{field_name}"] = said


def _plan_owned(
    session: Session, lists: dict[PolicyList, ItemPlan], problems: dict[str, str]
) -> None:
    """Plan the end of subscriptions that a file does not name, but whose category goes."""
    gone = lists[PolicyList.CATEGORIES].numbers if PolicyList.CATEGORIES in lists else ()
    if PolicyList.SUBSCRIPTIONS in lists or not gone:
        return
    owner = SUBSCRIPTIONS.columns.category
    ended: list[Row] = []
    for start in range(0, len(gone), AT_ONCE):
        ended += _read_rows(
            session, PolicyList.SUBSCRIPTIONS, owner.in_(gone[start : start + AT_ONCE])
        )
        if len(ended) > MOST_ENTRIES:
            problems["policy.categories"] = (
                f"It would end more than {MOST_ENTRIES} subscriptions; delete the categories first."
            )
            return
    lists[PolicyList.SUBSCRIPTIONS] = ItemPlan(
        added={},
        changed={},
        removed=tuple(sorted(name_of(PolicyList.SUBSCRIPTIONS, row) for row in ended)),
        present=policy_items.count(session, SUBSCRIPTIONS),
    )


def _name_strangers(session: Session, checked: CheckedPolicy, problems: dict[str, str]) -> None:
    """Find subscriptions to categories that will not be there."""
    wanted = checked.lists.get(PolicyList.SUBSCRIPTIONS, {})
    named = sorted({values["category"] for values in wanted.values()})
    known = set(checked.lists.get(PolicyList.CATEGORIES, {}))
    if checked.file.categories is None:
        address = CATEGORIES.columns.address
        for start in range(0, len(named), AT_ONCE):
            some = address.in_(named[start : start + AT_ONCE])
            known |= set(session.execute(select(address).where(some)).scalars())
    for category in [one for one in named if one not in known][:MAX_SENTENCES]:
        problems[f"policy.subscriptions {category}"] = f'There is no category "{category}".'


def _plan_rules(
    session: Session, rules: Sequence[ThreatRuleState] | None, problems: dict[str, str]
) -> Plan:
    rows = session.execute(select(ThreatSettingRow)).scalars()
    present = {row.rule: ThreatDraft(is_enabled=row.is_enabled, score=row.score) for row in rows}
    if rules is None:
        return Plan(added={}, changed={}, removed=(), present=len(present))
    built = {rule.name for rule in THREAT_RULES}
    found = (
        (place, one if one.rule in built else BadValue(f'There is no threat rule "{one.rule}".'))
        for place, one in enumerate(rules, 1)
    )
    wanted = {
        name: ThreatDraft(is_enabled=one.is_enabled, score=one.score)
        for name, one in _by_name("threat_rules", found, lambda one: one.rule, problems).items()
    }
    return Plan(
        added={name: one for name, one in wanted.items() if name not in present},
        changed={
            name: one for name, one in wanted.items() if name in present and present[name] != one
        },
        removed=tuple(sorted(present.keys() - wanted.keys())),
        present=len(present),
    )
