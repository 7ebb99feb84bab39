"""Compiling: what did not change is reused, what is broken is refused or left out, and said."""

from __future__ import annotations

import pytest

from nodeagent.policy.document import (
    Badword,
    Category,
    ListEntry,
    Manifest,
    RateRule,
    RateSubject,
    RateWindow,
    SectionKind,
    Subscription,
    ThreatSetting,
)
from nodeagent.policy.engine.policy import (
    CompiledPolicy,
    PolicyProblem,
    compile_policy,
    no_policy,
)
from nodeagent.policy.engine.sections import Entry, pack_section
from nodeagent.policy.model import ACCEPT, Stage, Verdict
from tests.policy.policies import OURS, allowed, blocked, decide, manifest_of, policy_of

RATE = RateRule(id=3, subject=RateSubject.CLIENT, window=RateWindow.HOUR, limit=10)
ENTRIES: tuple[Entry, ...] = (
    blocked("203.0.113.0/24", 1),
    allowed("*@example.org", 2),
    Badword(id=5, pattern="casino"),
    RATE,
    ThreatSetting(rule="sql-union", is_enabled=False),
    Category(id=6, address="news@lists.example.net"),
    Subscription(id=7, category=6, address="a@example.org", token="t" * 16),
)
PARTS = ("words", "rates", "threats", "categories")


class Shelf:
    """The bodies of sections, and which of them were asked for."""

    def __init__(self, bodies: dict[str, bytes]) -> None:
        self.bodies = bodies
        self.asked: list[str] = []

    def read(self, name: str) -> bytes | None:
        """Return a body, as a node's disk does."""
        self.asked.append(name)
        return self.bodies.get(name)


def compiled(
    entries: tuple[Entry, ...], previous: CompiledPolicy | None = None, **settings
) -> tuple[CompiledPolicy, Shelf]:
    """Return the policy, and what was read for it."""
    manifest, bodies = manifest_of(entries, **settings)
    shelf = Shelf(bodies)
    return compile_policy(manifest, shelf.read, previous), shelf


def test_before_the_first_policy_nothing_is_judged() -> None:
    """A node that never heard from the control plane lets mail pass."""
    assert no_policy().revision == 0
    for stage in Stage:
        assert decide(no_policy(), stage) == ACCEPT


def test_a_policy_knows_its_revision_and_settings() -> None:
    """They are the manifest's."""
    manifest, bodies = manifest_of(ENTRIES, revision=41, low=Verdict.DISCARD)
    policy = compile_policy(manifest, bodies.get)
    assert (policy.revision, policy.settings) == (41, manifest.settings)
    assert policy.problems == ()


def test_nothing_is_read_or_compiled_again_when_settings_change_alone() -> None:
    """A switch in the settings costs no second of compiling."""
    first, shelf = compiled(ENTRIES)
    assert len(shelf.asked) == 6
    second, again = compiled(ENTRIES, first, revision=2, has_threats=False)
    assert again.asked == []
    assert (second.revision, second.settings.has_threats) == (2, False)
    assert second.lists.sections[0] is first.lists.sections[0]
    for part in PARTS:
        assert getattr(second, part) is getattr(first, part)


CHANGES = [
    ("words", Badword(id=55, pattern="lottery")),
    ("rates", RATE.model_copy(update={"id": 33})),
    ("threats", ThreatSetting(rule="sql-drop")),
    ("categories", Category(id=66, address="tech@lists.example.net")),
    ("categories", Subscription(id=77, category=6, address="b@example.org", token="t" * 16)),
]


@pytest.mark.parametrize(("part", "added"), CHANGES)
def test_an_edit_compiles_its_own_part_alone(part: str, added: Entry) -> None:
    """The others are the very same objects."""
    first, _ = compiled(ENTRIES)
    second, shelf = compiled((*ENTRIES, added), first)
    assert len(shelf.asked) == (2 if part == "categories" else 1)
    for other in PARTS:
        assert (getattr(second, other) is getattr(first, other)) is (other != part)
    assert second.lists.sections[0] is first.lists.sections[0]


def test_what_is_removed_is_gone() -> None:
    """Also when it was all of its kind."""
    first, _ = compiled(ENTRIES)
    second, _ = compiled((), first)
    assert (second.rates, len(second.lists), dict(second.categories.by_address)) == ((), 0, {})
    assert second.words.find("casino") == ()


def test_one_edit_among_many_sections_reads_one_section() -> None:
    """That is how an edit among a million entries is in force within two seconds."""
    packed = [
        pack_section(SectionKind.LIST, number, [blocked(f"198.51.100.{number}", number + 1)])
        for number in range(16)
    ]
    bodies = {one.section.sha256: one.body for one in packed}
    manifest = Manifest(revision=1, settings=OURS, sections=tuple(one.section for one in packed))
    first = compile_policy(manifest, bodies.get)
    edited = pack_section(SectionKind.LIST, 3, [blocked("203.0.113.7", 4)])
    shelf = Shelf({edited.section.sha256: edited.body})
    sections = [one.section for one in packed]
    sections[3] = edited.section
    newer = Manifest(revision=2, settings=OURS, sections=tuple(sections))
    second = compile_policy(newer, shelf.read, first)
    assert shelf.asked == [edited.section.sha256]
    assert (len(first.lists), len(second.lists)) == (16, 16)
    assert decide(first, Stage.CONNECT).verdict is Verdict.ACCEPT
    assert decide(second, Stage.CONNECT).verdict is Verdict.REJECT


def test_a_section_that_is_missing_or_torn_keeps_the_old_policy() -> None:
    """No half of a policy is ever in force."""
    manifest, bodies = manifest_of(ENTRIES)
    for section in manifest.sections:
        name = section.sha256
        for broken in (
            {**bodies, name: bodies[name][:-9]},
            {k: v for k, v in bodies.items() if k != name},
        ):
            with pytest.raises(PolicyProblem, match=f"section {section.kind}/0 is"):
                compile_policy(manifest, broken.get)


def test_a_manifest_that_names_a_place_twice_is_refused() -> None:
    """It would mean two things."""
    manifest, bodies = manifest_of(ENTRIES)
    doubled = manifest.model_copy(update={"sections": manifest.sections * 2})
    with pytest.raises(PolicyProblem, match="two sections of one kind and number"):
        compile_policy(doubled, bodies.get)


BAD: list[tuple[Entry, str]] = [
    (ListEntry(id=91, value="not a value"), "section list/0: an entry is left out: "),
    (Badword(id=92, pattern="(", is_regex=True), "Bad word 92 is left out: "),
    (RATE.model_copy(update={"id": 93, "verdict": Verdict.DISCARD}), "Rate 93 is left out: "),
    (Category(id=94, address="nobody"), "Category 94 is left out: "),
    (
        Subscription(id=95, category=99, address="a@b.example", token="t" * 16),
        "Subscription 95 is left out: ",
    ),
]


@pytest.mark.parametrize(("entry", "sentence"), BAD)
def test_an_entry_that_does_not_compile_is_left_out_and_said(entry: Entry, sentence: str) -> None:
    """The rest is in force; and the sentence stays as long as the entry does."""
    first, _ = compiled((*ENTRIES, entry))
    assert len(first.problems) == 1
    assert first.problems[0].startswith(sentence)
    assert first.words.find("casino") != ()
    assert first.rates == (RATE,)
    later, _ = compiled((*ENTRIES, entry), first, revision=2, has_threats=False)
    assert later.problems == first.problems
    mended, _ = compiled(ENTRIES, later)
    assert mended.problems == ()


def test_settings_that_cannot_be_read_are_left_out_and_said() -> None:
    """A wrong network does not take the right ones with it."""
    policy = policy_of(trusted_networks=("10.0.0.0/8", "10.0.0.300"), rate_exempt=("a@",))
    assert [problem.split('"')[0] for problem in policy.problems] == [
        "settings: trusted_networks: ",
        "settings: rate_exempt: ",
    ]


def test_words_and_rates_that_are_off_are_not_there() -> None:
    """Switched off, but kept by the control plane."""
    off = RATE.model_copy(update={"id": 8, "is_enabled": False})
    policy = policy_of(off, Badword(id=9, pattern="casino", is_enabled=False))
    assert policy.rates == ()
    assert policy.words.find("casino") == ()
