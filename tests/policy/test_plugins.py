"""Plugins: what they may say, what they break, and that a broken one lets nothing pass unseen."""

from __future__ import annotations

import types
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from nodeagent.policy.document import FaultAction, PolicySettings, Privacy
from nodeagent.policy.engine import plugins as module
from nodeagent.policy.engine.case import Case, Given
from nodeagent.policy.engine.log_lines import Asked, Circumstances, decision_line
from nodeagent.policy.engine.plugins import Plugins, hookimpl, judge_with, load_plugins
from nodeagent.policy.engine.privacy import Redactor
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    AddRecipient,
    ChangeHeader,
    Decision,
    DeleteRecipient,
    Fired,
    Reply,
    RuleKind,
    Stage,
    Verdict,
)
from tests.policy.policies import (
    ENVELOPE,
    NOW_S,
    STRANGER,
    blocked,
    message_of,
    policy_of,
    rules_of,
)

MANUAL = Path(__file__).resolve().parents[2] / "docs/howto/write-a-policy-plugin.md"
FIRED = Fired(RuleKind.PLUGIN, "mine", "my own rule", Verdict.REJECT)
POLICY = policy_of(adds_headers=False)


class Installed:
    """An entry point of an installed distribution, without the distribution."""

    def __init__(self, name: str, plugin: object) -> None:
        self.name = name
        self.plugin = plugin

    def load(self) -> object:
        """Return the plugin, or fail as importing it would."""
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


def before(said: object, name: str = "before_engine") -> object:
    """Return a plugin that always says this, or raises it."""

    def function(stage, envelope):
        assert isinstance(stage, Stage)
        assert envelope is ENVELOPE
        if isinstance(said, Exception):
            raise said
        return said

    function.__name__ = name
    return types.SimpleNamespace(**{name: hookimpl(function)})


def after(said: object) -> object:
    """Return a plugin that says this when the engine is done."""
    return before(said, "after_engine")


def loaded(*plugins: object) -> Plugins:
    """Return these plugins, named a, b, c and so on."""
    return load_plugins([Installed(chr(97 + place), one) for place, one in enumerate(plugins)])


def judged(
    plugins: Plugins,
    stage: Stage = Stage.DATA,
    policy=POLICY,
    on_fault: FaultAction = FaultAction.TEMPFAIL,
) -> Decision:
    """Return what is decided with them."""
    message = message_of() if stage is Stage.DATA else None
    case = Case(stage, STRANGER, ENVELOPE, message, policy, Given(now_s=NOW_S))
    return judge_with(plugins, case, on_fault)


@pytest.mark.parametrize("make", [before, after])
def test_a_plugin_with_nothing_to_say_changes_nothing(make) -> None:
    """None, and an empty list."""
    for said in (None, (), []):
        assert judged(loaded(make(said))) == judged(Plugins())


@pytest.mark.parametrize("make", [before, after])
@pytest.mark.parametrize("said", [FIRED, (FIRED,), [FIRED]])
def test_a_rule_that_a_plugin_fires_counts_as_any_other(make, said) -> None:
    """It is named by its plugin, and the client is told the code."""
    decision = judged(loaded(make(said)))
    assert decision.verdict is Verdict.REJECT
    assert rules_of(decision) == ("plugin:a:mine",)
    assert decision.fired[0].kind is RuleKind.PLUGIN
    assert (decision.reply.code, decision.reply.enhanced) == (550, "5.7.1")


@pytest.mark.parametrize("strange", ["\udce4", chr(0xD83D), "\0"])
def test_what_a_plugin_quotes_of_a_stranger_can_be_written_down(strange: str) -> None:
    """Bytes that are no text neither stop the mail nor reach the log."""
    fired = Fired(RuleKind.PLUGIN, strange, f"from {strange}", Verdict.REJECT, matched=strange)
    for decision in (
        judged(loaded(before(fired))),
        judged(loaded(after(Decision(Verdict.REJECT, fired=(fired,))))),
    ):
        assert decision.verdict is Verdict.REJECT
        asked = Asked(Door.MILTER, Stage.DATA, STRANGER, ENVELOPE)
        full = Redactor(PolicySettings(privacy=Privacy.FULL))
        line = decision_line(asked, decision, Circumstances(NOW_S, 1.0, 1), full)
        told = next(one for one in line.fired if one.rule.startswith("plugin:a:"))
        assert told.rule == "plugin:a:\ufffd"
        assert told.text == "from \ufffd"
        assert told.matched == "\ufffd"


def test_a_plugin_cannot_pass_its_rule_off_as_the_allowlist() -> None:
    """Whatever kind it says, it is a plugin's."""
    forged = Fired(RuleKind.ALLOWLIST, "allowlist:1", "let it pass")
    decision = judged(loaded(before(forged)), policy=policy_of(blocked("203.0.113.7")))
    assert decision.verdict is Verdict.REJECT
    assert {fired.kind for fired in decision.fired} == {RuleKind.BLOCKLIST, RuleKind.PLUGIN}


def test_a_decision_before_the_engine_stands_instead_of_it() -> None:
    """Even for a client on the blocklist; the log says whose decision it was."""
    listed = policy_of(blocked("203.0.113.7"), adds_headers=False)
    decision = judged(loaded(before(ACCEPT)), policy=listed)
    assert decision.verdict is Verdict.ACCEPT
    assert rules_of(decision) == ("plugin:a",)


def test_a_decision_after_the_engine_stands_instead_of_its_own() -> None:
    """What the engine found is still listed."""
    listed = policy_of(blocked("203.0.113.7"), adds_headers=False)
    decision = judged(loaded(after(Decision(Verdict.DISCARD))), policy=listed)
    assert decision.verdict is Verdict.DISCARD
    assert rules_of(decision) == ("plugin:a", "blocklist:1")


def test_a_plugin_after_the_engine_is_told_what_was_decided() -> None:
    """And whatever else it names as an argument, in any order."""
    seen = []

    class Curious:
        @hookimpl
        def after_engine(self, decision, message, session, stage):
            seen.append((decision.verdict, message.queue_id, session, stage))

    judged(loaded(Curious()), policy=policy_of(blocked("203.0.113.7")))
    assert seen == [(Verdict.REJECT, "4XyZ", STRANGER, Stage.DATA)]


def test_plugins_are_asked_in_the_order_of_their_names() -> None:
    """So the same plugins decide alike on all nodes."""
    asked = []

    def noting(name):
        def before_engine():
            asked.append(name)

        return types.SimpleNamespace(before_engine=hookimpl(before_engine))

    installed = [Installed(name, noting(name)) for name in ("mid", "zed", "abc")]
    judged(load_plugins(installed))
    assert asked == ["abc", "mid", "zed"]


CHANGES = (AddHeader("X-Own", "1"), DeleteRecipient("bob@example.com"), AddRecipient("a@b.example"))


def test_a_decision_may_change_the_message() -> None:
    """Our own headers come on top of it."""
    decision = judged(loaded(after(Decision(changes=CHANGES))), policy=policy_of())
    assert decision.changes[:3] == CHANGES
    assert [change.name for change in decision.changes[3:]] == ["X-Relay-Policy"]


RUBBISH = [
    "reject",
    42,
    {"verdict": "reject"},
    [FIRED, "and more"],
    [FIRED] * 51,
    Fired(RuleKind.PLUGIN, 1, "x"),
    Fired(RuleKind.PLUGIN, "x", None),
    Fired(RuleKind.PLUGIN, "x", "x", "reject"),
    Fired(RuleKind.PLUGIN, "x", "x", score=float("nan")),
    Fired(RuleKind.PLUGIN, "x", "x", score=-1),
    Fired(RuleKind.PLUGIN, "x", "x", matched=b"bytes"),
    Decision("reject"),
    Decision(changes=("X-A: b",)),
    Decision(changes=(AddHeader("X-A", "b\r\nBcc: c"),)),
    Decision(changes=(AddHeader("X A", "b"),)),
    Decision(changes=(ChangeHeader("X-A", 0, "b"),)),
    Decision(changes=(AddRecipient("a@b\r\nX: y"),)),
    Decision(changes=(AddRecipient(""),)),
    Decision(changes=CHANGES * 400),
    Decision(Verdict.REJECT, Reply(451, "4.7.1", "x")),
    Decision(Verdict.REJECT, Reply(550, "4.7.1", "x")),
    Decision(Verdict.REJECT, Reply(550, "5.7.1", "two\r\nlines")),
    Decision(Verdict.ACCEPT, Reply(250, "2.0.0", "x")),
    Decision(Verdict.REJECT, "550 no"),
    ValueError("broken"),
    ZeroDivisionError("1/0\r\nand a line"),
    RecursionError(),
    AssertionError(),
]


@pytest.mark.parametrize("make", [before, after])
@pytest.mark.parametrize("said", RUBBISH, ids=lambda said: repr(said)[:50])
def test_a_plugin_that_raises_or_says_rubbish_is_a_named_fault(make, said) -> None:
    """The mail is put off, not let through as if the check had been made."""
    decision = judged(loaded(make(said)))
    assert decision.verdict is Verdict.TEMPFAIL
    assert (decision.reply.code, decision.reply.enhanced) == (451, "4.3.0")
    assert decision.fired[0].kind is RuleKind.FAULT
    assert decision.fired[0].rule == "plugin:a"
    assert "the plugin a failed" in decision.fired[0].text
    assert "\n" not in (decision.fired[0].matched or "")


@pytest.mark.parametrize("on_fault", FaultAction)
def test_a_fault_is_treated_as_the_settings_say(on_fault: FaultAction) -> None:
    """But for a quarantine before there is a mail."""
    decision = judged(loaded(before(ValueError())), on_fault=on_fault)
    assert decision.verdict.value == on_fault.value
    early = judged(loaded(before(ValueError())), Stage.MAIL, on_fault=on_fault)
    held = on_fault is FaultAction.QUARANTINE
    assert early.verdict.value == ("accept" if held else on_fault.value)


def test_one_broken_plugin_does_not_silence_the_others() -> None:
    """Nor the engine: the stronger verdict is taken."""
    decision = judged(loaded(before(ValueError()), before(FIRED), after(KeyError())))
    assert decision.verdict is Verdict.REJECT
    assert set(rules_of(decision)) == {"plugin:b:mine", "plugin:a", "plugin:c"}


def wrapping() -> object:
    """Return a plugin that would answer for the others."""

    @hookimpl(wrapper=True)
    def before_engine():
        return (yield)

    return types.SimpleNamespace(before_engine=before_engine)


def with_unknown_argument() -> object:
    """Return a plugin for an argument that there is not."""

    @hookimpl
    def before_engine(moon_phase):
        return moon_phase

    return types.SimpleNamespace(before_engine=before_engine)


def with_unknown_hook() -> object:
    """Return a plugin whose function's name is misspelled."""

    @hookimpl
    def before_motor(stage):
        return stage

    return types.SimpleNamespace(before_motor=before_motor)


@pytest.mark.parametrize(
    "broken",
    [
        ImportError("no module named scanner"),
        wrapping(),
        with_unknown_argument(),
        with_unknown_hook(),
    ],
    ids=["import", "wrapper", "argument", "hook"],
)
def test_a_plugin_that_cannot_be_loaded_fails_at_every_mail(broken: object) -> None:
    """Whoever installed a check did not mean it to be left out."""
    plugins = loaded(broken, before(None))
    assert len(plugins.problems) == 1
    assert plugins.problems[0].startswith("plugin a could not be loaded: ")
    decision = judged(plugins)
    assert (decision.verdict, rules_of(decision)) == (Verdict.TEMPFAIL, ("plugin:a",))


def test_nothing_installed_is_nothing_asked() -> None:
    """The group's name is all that is looked for."""
    plugins = load_plugins([])
    assert not plugins
    assert judged(plugins) == judged(Plugins())
    assert not judged(loaded(before(FIRED)), policy=policy_of(is_active=False)).fired


def test_at_early_stages_a_plugin_cannot_hold_or_discard() -> None:
    """There is no mail yet; it is asked again at DATA."""
    for verdict in (Verdict.DISCARD, Verdict.QUARANTINE):
        plugins = loaded(before(Decision(verdict)))
        assert judged(plugins, Stage.MAIL).verdict is Verdict.ACCEPT
        assert judged(plugins, Stage.DATA).verdict is verdict


def example_of_the_manual() -> str:
    """Return the plugin that the manual shows, word for word."""
    text = MANUAL.read_text(encoding="utf-8")
    return text.split("```python\n", 1)[1].split("```", 1)[0]


def test_the_example_of_the_manual_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is installed as a distribution is, found by its entry point, and asked."""
    (tmp_path / "invoices.py").write_text(example_of_the_manual(), encoding="utf-8")
    info = tmp_path / "invoices-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: invoices\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{module.GROUP}]\ninvoices = invoices\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins = load_plugins()
    assert plugins.problems == ()
    mail = message_of(Subject="Invoice")
    case = Case(Stage.DATA, STRANGER, ENVELOPE, mail, POLICY, Given(now_s=NOW_S))
    decision = judge_with(plugins, case, FaultAction.TEMPFAIL)
    assert (decision.verdict, rules_of(decision)) == (
        Verdict.QUARANTINE,
        ("plugin:invoices:invoice-from-stranger",),
    )
    harmless = judged(plugins)
    assert (harmless.verdict, harmless.fired) == (Verdict.ACCEPT, ())


def test_entry_points_of_the_standard_library_are_what_is_loaded() -> None:
    """The real type has what is used of it."""
    entry = EntryPoint(name="none", value="no_such_module_at_all", group=module.GROUP)
    plugins = load_plugins([entry])
    assert plugins.problems == (
        (
            "plugin none could not be loaded: ModuleNotFoundError: No module named"
            " 'no_such_module_at_all'"
        ),
    )
