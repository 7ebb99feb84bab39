"""Checks of the administrator's own, before and after the engine, each kept apart from the rest.

Theory of operation. A plugin is a module or object with one or both of the functions below, marked
by `hookimpl`, in the entry point group `mail_relay_policy` of the Python that the node runs. The
functions are called one by one, in the order of the plugins' names. What one of them returns is
checked before it is used. One that raises, returns what is none of ours, or could not be loaded at
all is a fault: it is named in the log, and the mail is treated as the settings say (tempfail if
they do not), never let through as if the check had been made.

A plugin runs in the hook's process, in a thread of its own. One that waits longer than the
policy's `decision_timeout_s` has its mail tempfailed; `plugin_threads` bounds what it keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from types import SimpleNamespace
from typing import Any, Final

import pluggy

from nodeagent.policy.document import FaultAction
from nodeagent.policy.engine.case import Case
from nodeagent.policy.engine.headers import header_problem
from nodeagent.policy.engine.judge import conclude, find, with_changes
from nodeagent.policy.engine.privacy import storable
from nodeagent.policy.engine.values import canonical_address
from nodeagent.policy.engine.verdicts import Finding, Wording, listed, one_line
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Envelope,
    Fired,
    Message,
    Reply,
    RuleKind,
    Session,
    Stage,
    Verdict,
)

GROUP: Final = "mail_relay_policy"
MOST_FIRED: Final = 50
LONGEST_RULE: Final = 100
LONGEST_TEXT: Final = 500
MOST_CHANGES: Final = 1000
PERMANENT: Final = range(500, 600)
TRANSIENT: Final = range(400, 500)

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)

Said = Decision | Fired | Iterable[Fired] | None

FAULT: Final = Wording(
    "The mail cannot be checked now; try again later",
    reject=(550, "5.3.0"),
    tempfail=(451, "4.3.0"),
)
REFUSED: Final = Wording("A local rule of this relay refuses it; ask the postmaster why")


class Specification:
    """What a plugin may have; each function takes as many of the arguments as it names."""

    @hookspec
    def before_engine(
        self, stage: Stage, session: Session, envelope: Envelope, message: Message | None
    ) -> Said:
        """Return a Decision that stands instead of the engine's, rules that fired, or None."""

    @hookspec
    def after_engine(
        self,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None,
        decision: Decision,
    ) -> Said:
        """Return a Decision that stands instead of this one, rules that fired, or None."""


@dataclass(frozen=True)
class Plugin:
    """One function of one plugin."""

    name: str
    call: Callable[..., Any]
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Plugins:
    """All that are installed; `problems` names those that could not be loaded."""

    before: tuple[Plugin, ...] = ()
    after: tuple[Plugin, ...] = ()
    problems: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.before or self.after)


def load_plugins(installed: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load what is installed, `installed` for all of the group; never raises."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Specification)
    problems: list[str] = []
    found = entry_points(group=GROUP) if installed is None else installed
    names: list[str] = []
    for entry in sorted(found, key=lambda one: one.name):
        problem = _load(manager, entry)
        if problem is not None:
            sentence = f"plugin {entry.name} could not be loaded: {one_line(problem)}"
            problems.append(sentence)
            _unload(manager, entry.name)
            manager.register(_broken(sentence), name=entry.name)
        names.append(entry.name)
    return Plugins(
        before=_functions(manager, "before_engine", names),
        after=_functions(manager, "after_engine", names),
        problems=tuple(problems),
    )


def judge_with(plugins: Plugins, case: Case, on_fault: FaultAction) -> Decision:
    """Return the engine's decision with what the plugins say to it; never raises."""
    if not case.policy.settings.is_active:
        return ACCEPT
    told = {
        "stage": case.stage,
        "session": case.session,
        "envelope": case.envelope,
        "message": case.message,
    }
    findings: list[Finding] = []
    for plugin in plugins.before:
        said = _ask(plugin, told, on_fault, case.stage)
        if isinstance(said, Decision):
            return _decided_by(plugin, said, case, findings)
        findings += said
    findings += find(case)
    decision = conclude(case, findings)
    for plugin in plugins.after:
        said = _ask(plugin, told | {"decision": decision}, on_fault, case.stage)
        if isinstance(said, Decision):
            return _decided_by(plugin, said, case, findings)
        if said:
            findings += said
            decision = conclude(case, findings)
    return decision


def _load(manager: pluggy.PluginManager, entry: EntryPoint) -> str | None:
    """Register one plugin; return why it cannot be."""
    try:
        manager.register(entry.load(), name=entry.name)
        manager.check_pending()
    except Exception as error:  # noqa: BLE001 (a stranger's code is run)
        return f"{type(error).__name__}: {error}"
    for hook in (manager.hook.before_engine, manager.hook.after_engine):
        for found in hook.get_hookimpls():
            if found.plugin_name == entry.name and (found.hookwrapper or found.wrapper):
                return "it wraps others; a plugin here speaks for itself alone"
    return None


def _unload(manager: pluggy.PluginManager, name: str) -> None:
    if manager.has_plugin(name):
        manager.unregister(name=name)


def _broken(sentence: str) -> object:
    """Return what stands in the place of a plugin that could not be loaded: it always fails."""

    @hookimpl
    def before_engine() -> Said:
        raise RuntimeError(sentence)

    return SimpleNamespace(before_engine=before_engine)


def _functions(
    manager: pluggy.PluginManager, hook: str, names: Sequence[str]
) -> tuple[Plugin, ...]:
    found = [
        Plugin(one.plugin_name, one.function, tuple(one.argnames))
        for one in getattr(manager.hook, hook).get_hookimpls()
    ]
    return tuple(sorted(found, key=lambda one: names.index(one.name)))


def _ask(
    plugin: Plugin, told: dict[str, Any], on_fault: FaultAction, stage: Stage
) -> Decision | tuple[Finding, ...]:
    try:
        said = plugin.call(*(told[name] for name in plugin.arguments))
        return _checked(plugin, said, stage)
    except Exception as error:  # noqa: BLE001 (a stranger's code is run)
        why = one_line(f"{type(error).__name__}: {error}")
    fired = Fired(
        kind=RuleKind.FAULT,
        rule=f"plugin:{plugin.name}",
        text=f"the plugin {plugin.name} failed and is treated as the settings say",
        verdict=Verdict(on_fault.value),
        matched=why,  # it may quote the mail
    )
    return (Finding(fired, FAULT),)


def _checked(plugin: Plugin, said: Any, stage: Stage) -> Decision | tuple[Finding, ...]:
    """Return what a plugin said in our types; raises ValueError for anything else."""
    if said is None:
        return ()
    if isinstance(said, Decision):
        return _checked_decision(said, stage)
    fired = [said] if isinstance(said, Fired) else list(said)
    if len(fired) > MOST_FIRED:
        raise ValueError(f"more than {MOST_FIRED} rules fired")
    return tuple(Finding(_checked_fired(plugin, one), REFUSED) for one in fired)


def _checked_fired(plugin: Plugin, fired: Any) -> Fired:
    if not isinstance(fired, Fired):
        raise ValueError(f"{type(fired).__name__} is no Fired")  # noqa: TRY004 (one kind of fault)
    is_fit = (
        isinstance(fired.rule, str)
        and isinstance(fired.text, str)
        and isinstance(fired.verdict, Verdict)
        and isinstance(fired.score, int | float)
        and 0 <= fired.score <= 1000  # noqa: PLR2004
        and isinstance(fired.matched, str | None)
    )
    if not is_fit:
        raise ValueError("a field of Fired has a wrong type or a score out of 0 to 1000")
    return replace(
        fired,
        kind=RuleKind.PLUGIN,
        rule=storable(f"plugin:{plugin.name}:{fired.rule}", LONGEST_RULE),
        text=storable(fired.text, LONGEST_TEXT),
    )


def _checked_decision(said: Decision, stage: Stage) -> Decision:
    if not isinstance(said.verdict, Verdict):
        raise ValueError("a Decision without a verdict")  # noqa: TRY004
    if said.changes and stage is not Stage.DATA:
        raise ValueError("changes are possible at DATA only")
    if len(said.changes) > MOST_CHANGES:
        raise ValueError(f"more than {MOST_CHANGES} changes")
    for change in said.changes:
        _check_change(change)
    if said.reply is not None:
        _check_reply(said.reply, said.verdict)
    return said


def _check_change(change: Change) -> None:
    match change:
        case AddHeader(str() as name, str() as value):
            problem = header_problem(name, value)
        case ChangeHeader(str() as name, int() as index, str() as value):
            problem = header_problem(name, value) if index > 0 else "an index counts from 1"
        case AddRecipient(str() as address) | DeleteRecipient(str() as address):
            canonical_address(address)
            problem = None if address else "no address"
        case ChangeSender(str() as address):
            canonical_address(address)
            problem = None
        case _:
            problem = "it is no Change"
    if problem is not None:
        raise ValueError(f"a change that cannot be made: {problem}")


def _check_reply(reply: Reply, verdict: Verdict) -> None:
    wanted = {Verdict.REJECT: PERMANENT, Verdict.TEMPFAIL: TRANSIENT}.get(verdict)
    if wanted is None:
        raise ValueError("a reply is given with REJECT and TEMPFAIL only")
    is_fit = reply.code in wanted and reply.enhanced[:2] == f"{reply.code // 100}."
    if not is_fit or one_line(reply.text) != reply.text:
        raise ValueError("a reply has a code of its verdict and one line of printable ASCII")


def _decided_by(plugin: Plugin, said: Decision, case: Case, findings: list[Finding]) -> Decision:
    """Return a plugin's decision, as the log and the doors need it."""
    rule = f"plugin:{plugin.name}"
    text = f"the plugin {plugin.name} decided"
    first = Finding(Fired(RuleKind.PLUGIN, rule, text, verdict=said.verdict), REFUSED)
    theirs = [Finding(_checked_fired(plugin, one), REFUSED) for one in said.fired[:MOST_FIRED]]
    is_late = said.verdict in {Verdict.DISCARD, Verdict.QUARANTINE} and case.stage is not Stage.DATA
    verdict = Verdict.ACCEPT if is_late else said.verdict
    decision = Decision(
        verdict=verdict,
        reply=said.reply or first.reply,
        changes=said.changes,
        fired=listed((*theirs, *findings), first),
    )
    return with_changes(case, decision)
