"""A policy as it is judged by: immutable, compiled whole, reusing what did not change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Final, TypeVar

from nodeagent.core.contract import Wire
from nodeagent.policy.document import (
    Badword,
    Category,
    ListEntry,
    Manifest,
    PolicySettings,
    RateRule,
    Section,
    SectionKind,
    Subscription,
    ThreatSetting,
)
from nodeagent.policy.engine.categories import Categories
from nodeagent.policy.engine.lists import Lists, ListSection
from nodeagent.policy.engine.sections import read_entries
from nodeagent.policy.engine.surroundings import Surroundings
from nodeagent.policy.engine.threats import ThreatSet
from nodeagent.policy.engine.words import BadwordSet, compile_badwords
from nodeagent.policy.model import Verdict

MOST_PROBLEMS: Final = 100
RATE_VERDICTS: Final = frozenset({Verdict.TEMPFAIL, Verdict.REJECT})
_E = TypeVar("_E", bound=Wire)
Names = tuple[str, ...]


class PolicyProblem(ValueError):
    """The policy cannot be put in force; the one before it stays."""


@dataclass(frozen=True)
class Kept:
    """What is kept of a compiled kind for the next policy, under the names of its sections."""

    lists: Mapping[str, tuple[ListSection, tuple[str, ...]]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    words: Names = ()
    rates: Names = ()
    threats: Names = ()
    categories: Names = ()
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class CompiledPolicy:
    """One whole policy, ready to judge by; `problems` says what was left out, a sentence each."""

    revision: int
    settings: PolicySettings
    lists: Lists
    words: BadwordSet
    rates: tuple[RateRule, ...]
    threats: ThreatSet
    categories: Categories
    surroundings: Surroundings
    problems: tuple[str, ...] = ()
    kept: Kept = Kept()


@cache
def no_policy() -> CompiledPolicy:
    """Return what is in force before the first policy came: nothing is judged."""
    settings = PolicySettings()
    return CompiledPolicy(
        revision=0,
        settings=settings,
        lists=Lists(),
        words=compile_badwords(()),
        rates=(),
        threats=ThreatSet.compile(),
        categories=Categories(),
        surroundings=Surroundings.compile(settings),
    )


def compile_policy(
    manifest: Manifest,
    read: Callable[[str], bytes | None],
    previous: CompiledPolicy | None = None,
) -> CompiledPolicy:
    """Return the policy of a manifest; `read` gives a section's body by its name (SHA-256).

    A body is asked for only where `previous` did not compile it. Raises `PolicyProblem` when a
    section is missing, torn or named twice; an entry that does not compile is only left out.
    Takes up to seconds for a million entries: call it off the hot path.
    """
    places = [(section.kind, section.number) for section in manifest.sections]
    if len(set(places)) != len(places):
        raise PolicyProblem("the manifest names two sections of one kind and number")
    compiled = _Compiling(manifest, read, previous or no_policy()).run()
    found = [
        *compiled.surroundings.problems,
        *(sentence for sentences in compiled.kept.problems.values() for sentence in sentences),
    ]
    return replace(compiled, problems=tuple(found[:MOST_PROBLEMS]))


class _Compiling:
    """One compilation; it lives as long as `compile_policy` runs."""

    def __init__(
        self, manifest: Manifest, read: Callable[[str], bytes | None], previous: CompiledPolicy
    ) -> None:
        self._manifest = manifest
        self._read = read
        self._previous = previous
        self._problems: dict[str, tuple[str, ...]] = {}

    def run(self) -> CompiledPolicy:
        lists = self._lists()
        words = self._words()
        rates = self._rates()
        threats = self._threats()
        categories = self._categories()
        kept = Kept(
            lists=MappingProxyType(lists),
            words=self._names(SectionKind.BADWORDS),
            rates=self._names(SectionKind.RATES),
            threats=self._names(SectionKind.THREATS),
            categories=self._names(SectionKind.CATEGORIES, SectionKind.SUBSCRIPTIONS),
            problems=MappingProxyType(self._problems),
        )
        return CompiledPolicy(
            revision=self._manifest.revision,
            settings=self._manifest.settings,
            lists=Lists(section for section, _ in lists.values()),
            words=words,
            rates=rates,
            threats=threats,
            categories=categories,
            surroundings=Surroundings.compile(self._manifest.settings),
            kept=kept,
        )

    def _sections(self, *kinds: SectionKind) -> list[Section]:
        found = [one for one in self._manifest.sections if one.kind in kinds]
        return sorted(found, key=lambda one: (kinds.index(one.kind), one.number))

    def _names(self, *kinds: SectionKind) -> Names:
        """Return what the sections of these kinds are called; kinds do not run into one another."""
        return tuple(f"{one.kind}:{one.sha256}" for one in self._sections(*kinds))

    def _is_kept(self, kept: Names, place: str, *kinds: SectionKind) -> bool:
        """Tell whether the previous policy has just these sections; its problems are kept, too."""
        if self._names(*kinds) != kept:
            return False
        self._problems[place] = self._previous.kept.problems.get(place, ())
        return True

    def _entries(self, kind: SectionKind, model: type[_E], problems: list[str]) -> Iterator[_E]:
        for section in self._sections(kind):
            entries, sentences = self._read_section(section, model)
            problems += sentences
            yield from entries

    def _read_section(
        self, section: Section, model: type[_E]
    ) -> tuple[tuple[_E, ...], tuple[str, ...]]:
        body = self._read(section.sha256)
        if body is None:
            raise PolicyProblem(f"section {section.kind}/{section.number} is missing")
        try:
            return read_entries(section, body, model)
        except ValueError as error:
            raise PolicyProblem(str(error)) from error

    def _lists(self) -> dict[str, tuple[ListSection, tuple[str, ...]]]:
        """Compile each section by itself, for one edit among a million touches only one."""
        known = self._previous.kept.lists
        found: dict[str, tuple[ListSection, tuple[str, ...]]] = {}
        for section in self._sections(SectionKind.LIST):
            kept = known.get(section.sha256)
            if kept is None:
                entries, problems = self._read_section(section, ListEntry)
                compiled = ListSection.compile(entries)
                kept = compiled, (*problems, *_list_problems(section, compiled))
            found[section.sha256] = kept
        self._problems["lists"] = tuple(one for _, each in found.values() for one in each)
        return found

    def _words(self) -> BadwordSet:
        if self._is_kept(self._previous.kept.words, "words", SectionKind.BADWORDS):
            return self._previous.words
        problems: list[str] = []
        compiled = compile_badwords(self._entries(SectionKind.BADWORDS, Badword, problems))
        self._problems["words"] = (*problems[:MOST_PROBLEMS], *compiled.problems)
        return compiled

    def _rates(self) -> tuple[RateRule, ...]:
        if self._is_kept(self._previous.kept.rates, "rates", SectionKind.RATES):
            return self._previous.rates
        problems: list[str] = []
        fit = []
        for rule in self._entries(SectionKind.RATES, RateRule, problems):
            if rule.verdict not in RATE_VERDICTS:
                problems.append(f"Rate {rule.id} is left out: it can tempfail or reject only.")
            elif rule.is_enabled:
                fit.append(rule)
        self._problems["rates"] = tuple(problems[:MOST_PROBLEMS])
        return tuple(fit)

    def _threats(self) -> ThreatSet:
        if self._is_kept(self._previous.kept.threats, "threats", SectionKind.THREATS):
            return self._previous.threats
        problems: list[str] = []
        entries = tuple(self._entries(SectionKind.THREATS, ThreatSetting, problems))
        self._problems["threats"] = tuple(problems[:MOST_PROBLEMS])
        return ThreatSet.compile(entries)

    def _categories(self) -> Categories:
        kinds = (SectionKind.CATEGORIES, SectionKind.SUBSCRIPTIONS)
        if self._is_kept(self._previous.kept.categories, "categories", *kinds):
            return self._previous.categories
        problems: list[str] = []
        compiled = Categories.compile(
            tuple(self._entries(SectionKind.CATEGORIES, Category, problems)),
            self._entries(SectionKind.SUBSCRIPTIONS, Subscription, problems),
        )
        self._problems["categories"] = (*problems[:MOST_PROBLEMS], *compiled.problems)
        return compiled


def _list_problems(section: Section, compiled: ListSection) -> Iterator[str]:
    for problem in compiled.problems:
        yield f"section {section.kind}/{section.number}: an entry is left out: {problem}"
    more = compiled.refused - len(compiled.problems)
    if more > 0:
        yield f"section {section.kind}/{section.number}: {more} more entries are left out"
