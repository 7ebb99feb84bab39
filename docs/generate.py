"""Writes docs/reference/ from the program itself: commands, settings, rules, timings, events, REST.

`python docs/generate.py` writes what has changed; `--check` writes nothing and fails when a page is
not what the program says today. Nothing in docs/reference/ is edited by hand.
"""  # noqa: INP001 - a script beside what it writes

from __future__ import annotations

import argparse
import inspect
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

import typer.main  # noqa: E402 - the path above comes first
from pydantic import BaseModel  # noqa: E402
from pydantic.fields import FieldInfo  # noqa: E402

from nodeagent import guard, guard_server  # noqa: E402
from nodeagent.core import actions, lease  # noqa: E402
from nodeagent.core.contract import Timings  # noqa: E402
from nodeagent.core.decision import HOUSEKEEPING, OWNERSHIP, Rule  # noqa: E402
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS  # noqa: E402
from nodeagent.core.push_rules import PushRefusal  # noqa: E402
from nodeagent.settings import AgentSettings  # noqa: E402

REFERENCE: Final = REPOSITORY / "docs" / "reference"
CLI_INTRODUCTION: Final = """
Every command prints an error as one sentence on standard error and ends with a code other than 0.
`--help` shows the same as this page.
"""
API_INTRODUCTION: Final = """
The control plane serves the whole document, with every field and example, at `/openapi.json` and as
a page at `/docs`.
"""
NOTE: Final = "<!-- Written by docs/generate.py. Do not edit. -->"

COMMANDS: Final = {
    "relayctl": "controlplane.relayctl.cli",
    "relay-agent": "nodeagent.cli",
    "relay-controlplane": "controlplane.cli",
    "relay-lab": "lab.cli",
}
PLAIN_COMMANDS: Final = {
    "relay-guard": ("nodeagent.guard", "relay-guard run", "systemd starts it; it has no options."),
    "relay-receive": (
        "nodeagent.receive",
        "relay-receive [--relay DIR] [--state DIR] [--owner USER] PEER",
        "sshd starts it as the forced command of a peer's key; nobody types it.",
    ),
}

TIMING_TEXTS: Final = {
    "lease_duration_s": "How long a lease lasts from its last renewal, by the database's clock.",
    "lease_margin_s": "How much earlier its holder stops; covers stopping and clock drift.",
    "lease_renew_deadline_s": "How long renewing alone is tried before the peers are asked.",
    "lease_retry_s": "How long a heartbeat waits for its answer (never below 1 s).",
    "push_interval_s": "Seconds between two pushes: what may wait for a dead host's disk.",
    "promise_s": "How long a peer promises not to adopt; nothing is adopted so long after a start.",
    "retired_keep_days": "How long retired mail stays on disk, by its node's clock and, from the"
    " end of its receipt, by the database's clock: it is removed when both say so.",
}

REFUSAL_TEXTS: Final = {
    PushRefusal.STRANGER: "The key's owner offers a queue that is not its own.",
    PushRefusal.DIRECTION: "The sender owns no VIP, or the receiver owns the same one, or the"
    " receiver cannot read its addresses.",
    PushRefusal.RECEIPT: "The receiver is adopting this queue; its receipt is not finished.",
    PushRefusal.GENERATION: "The generation is below the highest the receiver knows, by push or by"
    " its own adoption.",
    PushRefusal.SEQUENCE: "The sequence number is not newer than the one in place.",
    PushRefusal.BASE: "The push was computed against another state of the mirror.",
    PushRefusal.NOT_FULL: "The first push of a generation or of an agent process did not compare"
    " everything.",
}


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped."""
    lines = [list(headings), ["---"] * len(headings), *(list(row) for row in rows)]
    shown = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in shown)


def page(title: str, *parts: str) -> str:
    """Return one whole page."""
    return "\n\n".join([NOTE, f"# {title}", *(part.strip() for part in parts)]) + "\n"


def first_sentence(text: str | None) -> str:
    """Return the first line of a docstring."""
    return inspect.cleandoc(text or "").partition("\n")[0]


def _shown(value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        value = f"{value:g}"
    return "" if value is None or value in ("", ()) else f"`{value}`"


def _metavar(parameter: Any) -> str:
    """Return what stands for the value of an option or argument; nothing for a flag."""
    if getattr(parameter, "is_flag", False):
        return ""
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind)
    if parameter.param_type_name == "argument":
        return str(parameter.name).upper()
    return str(getattr(kind, "__name__", "value")).upper().replace("STR", "TEXT")


def _parameter_row(parameter: Any) -> tuple[str, str, str]:
    metavar = _metavar(parameter)
    if parameter.param_type_name == "argument":
        name = metavar
    else:
        names = ", ".join([*parameter.opts, *parameter.secondary_opts])
        name = f"{names} {metavar}".strip()
    default = "required" if parameter.required else _shown(parameter.default)
    if getattr(parameter, "is_flag", False) and not parameter.default:
        default = ""
    return f"`{name}`", default, str(parameter.help or "")


def _commands_below(command: Any, words: str) -> list[str]:
    """Return a section for a command and one for each command below it."""
    below = getattr(command, "commands", None)
    if below:
        return [
            part
            for name, child in below.items()
            if not child.hidden
            for part in _commands_below(child, f"{words} {name}")
        ]
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    usage = " ".join([words, *(_metavar(one) for one in arguments)])
    parts = [f"### `{usage}`", inspect.cleandoc(command.help or "").replace("\f", "").strip()]
    rows = [_parameter_row(one) for one in command.params if not getattr(one, "hidden", False)]
    if rows:
        parts.append(table(("option or argument", "default", "meaning"), rows))
    return [part for part in parts if part]


def cli_page() -> str:
    """Return the reference of every command that users type or units start."""
    parts = [CLI_INTRODUCTION]
    for name, module in COMMANDS.items():
        command = typer.main.get_command(import_module(module).app)
        parts += [f"## {name}", inspect.cleandoc(command.help or "")]
        parts += _commands_below(command, name)
    for name, (module, usage, how) in PLAIN_COMMANDS.items():
        text = first_sentence(import_module(module).__doc__)
        parts += [f"## {name}", f"### `{usage}`", f"{text} {how}"]
    return page("Commands", *parts)


def _settings_table(model: type[BaseModel], prefix: str) -> str:
    def row(name: str, field: FieldInfo) -> tuple[str, str, str]:
        variable = f"{prefix}{name}".upper()
        return f"`{variable}`", _shown(field.default), field.description or ""

    rows = [row(name, field) for name, field in model.model_fields.items()]
    return table(("variable", "default", "meaning"), rows)


def settings_page() -> str:
    """Return the settings of both processes, as environment variables."""
    settings = import_module("controlplane.settings").Settings
    return page(
        "Settings",
        "A process reads its own settings from the environment. Everything about the cluster"
        " (nodes, VIPs, domains, routes, timings) is state of the control plane"
        " and is changed there.",
        "## Node agent and lease guard",
        "They read `/etc/relay/agent.toml` too: the same names in lower case without the prefix"
        " (`tick_s = 0.5`, paths in quotes). The environment wins over the file.",
        _settings_table(AgentSettings, "RELAY_AGENT_"),
        "## Control plane",
        _settings_table(settings, "RELAY_"),
    )


def actions_of(rule: Rule) -> list[str]:
    """Return the names of the actions that a rule may plan, in the order it names them."""
    names = rule.plan.__code__.co_names
    found = (getattr(actions, name, None) for name in names)
    return [
        one.__name__ for one in found if isinstance(one, type) and issubclass(one, actions.Action)
    ]


def flow_of(rules: tuple[Rule, ...]) -> str:
    """Return a Mermaid flow: from rule to rule until one applies."""
    lines = ["```mermaid", "flowchart TD"]
    for number, rule in enumerate(rules):
        lines.append(f'    r{number}{{"{rule.name}"}}')
        planned = ", ".join(actions_of(rule)) or "nothing"
        lines.append(f'    r{number} -- applies --> a{number}["{planned}"]')
        if number + 1 < len(rules):
            lines.append(f"    r{number} -- no --> r{number + 1}")
    return "\n".join([*lines, "```"])


def _rule_table(rules: tuple[Rule, ...]) -> str:
    rows = (
        (str(number), f"`{rule.name}`", rule.comment, ", ".join(actions_of(rule)) or "nothing")
        for number, rule in enumerate(rules, 1)
    )
    return table(("", "rule", "when and why", "plans"), rows)


def _action_table() -> str:
    known = [
        one
        for _, one in inspect.getmembers(actions, inspect.isclass)
        if issubclass(one, actions.Action) and one is not actions.Action
    ]
    rows = (
        (f"`{one.__name__}`", "job" if one.is_job else "", first_sentence(one.__doc__))
        for one in known
    )
    return table(("action", "", "effect"), rows)


def rules_page() -> str:
    """Return the rule tables of the agent and of the receiver."""
    refusals = ((f"`{reason}`", text) for reason, text in REFUSAL_TEXTS.items())
    return page(
        "Rules",
        "Each tick the agent takes one observation and reads two tables from the top; in each the"
        " first rule that applies decides. `relay-agent explain` names the rule that matched last."
        " See [architecture](../explanation/architecture.md) for the loop and"
        " [ownership](../explanation/ownership.md) for the reasons.",
        "## Ownership: whose mail it is and where it goes",
        _rule_table(OWNERSHIP),
        flow_of(OWNERSHIP),
        "## Housekeeping: this node's own files and addresses",
        _rule_table(HOUSEKEEPING),
        "## Actions",
        "A job takes longer than a tick may; one job runs at a time, and meanwhile only the rules"
        " above `job-running` act.",
        _action_table(),
        "## Why a mirror refuses a push",
        "The receiver looks when a session begins and again under the mirror's lock. The first"
        " reason that applies is told the sender and noted as the event `push-refused`.",
        table(("reason", "when"), refusals),
    )


def _checks_of_timings() -> str:
    """Return the sentences that a cluster gets whose timings all contradict each other."""
    bad = Timings(
        lease_duration_s=5, lease_margin_s=4, lease_renew_deadline_s=3, lease_retry_s=3, promise_s=1
    )
    return "\n".join(f"* {sentence}" for _, sentence in lease.check_timings(bad))


def timings_page() -> str:
    """Return every duration of the ownership protocol, and how they fit together."""
    rows = (
        (f"`{name}`", _shown(field.default), TIMING_TEXTS[name])
        for name, field in Timings.model_fields.items()
    )
    default = Timings()
    proof_s = default.lease_duration_s - default.lease_margin_s
    fixed = (
        ("the guard fences", f"{proof_s:g} s", "after the last renewal was sent, if none follows"),
        (
            "the agent asks its peers",
            f"{default.lease_renew_deadline_s:g} s",
            "after the last renewal was sent",
        ),
        (
            "deliveries may end by themselves",
            f"{lease.drain_limit_s(default):g} s",
            f"after the deadline: {lease.DRAIN_SHARE:g} of the margin; then they are killed",
        ),
        ("a freeze ends at the latest", f"{guard.FREEZE_LIMIT_S:g} s", "after it began"),
        ("the guard looks", f"{guard_server.POLL_S:g} s", "at most after it looked last"),
    )
    return page(
        "Timings",
        "These belong to the cluster: change them with `PATCH /api/v1/cluster` (`timings`). The"
        " agents get them with the next heartbeat.",
        table(("timing", "default", "meaning"), rows),
        "## What follows from the defaults",
        table(("what", "time", "counted"), fixed),
        "## What is refused",
        "`lease_retry_s` < `lease_renew_deadline_s` < `lease_duration_s` - `lease_margin_s`, and"
        " `promise_s` > `lease_margin_s` + `lease_retry_s`, and `promise_s` > `lease_duration_s` -"
        " `lease_renew_deadline_s`. The control plane refuses"
        " anything else, one sentence a field:",
        _checks_of_timings(),
    )


def events_page() -> str:
    """Return every kind of event, of the nodes and of the control plane."""
    nodes, control_plane = (
        table(("kind", "what it tells"), ((f"`{kind}`", text) for kind, text in kinds.items()))
        for kinds in (NODE_KINDS, CONTROL_PLANE_KINDS)
    )
    text = (
        "`relayctl events --kind KIND` shows one kind. A failed action is an event as well, once"
        " for each reason: `push-failed` for the action `Push` of the [rules](rules.md)."
    )
    return page("Events", text, "## Nodes", nodes, "## Control plane", control_plane)


@cache
def openapi_document() -> dict[str, Any]:
    """Return the REST API's OpenAPI document, as the control plane serves it."""
    settings = import_module("controlplane.settings").Settings
    database = import_module("controlplane.store.engine").Database
    create_app = import_module("controlplane.app").create_app
    with tempfile.TemporaryDirectory() as directory:
        opened = database(f"sqlite:///{directory}/relay.db")
        document: dict[str, Any] = create_app(settings(state_dir=directory), opened).openapi()
        opened.close()
    return document


def _calls(document: dict[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    calls: dict[str, list[tuple[str, ...]]] = {}
    for path, methods in document["paths"].items():
        for method, call in methods.items():
            text = str(call.get("description") or call.get("summary") or "").partition("\n")[0]
            row = (f"`{method.upper()}`", f"`{path}`", call["x-permission"], text)
            calls.setdefault(call.get("tags", ["other"])[0], []).append(row)
    return calls


def api_page() -> str:
    """Return every REST call, one line each, by noun."""
    document = openapi_document()
    calls = _calls(document)
    texts = {tag["name"]: tag["description"] for tag in document.get("tags", [])}
    parts = [API_INTRODUCTION, str(document["info"].get("description", ""))]
    for tag in [*texts, *(tag for tag in calls if tag not in texts)]:
        if tag in calls:
            rows = table(("", "path", "needs", "what"), calls[tag])
            parts += [f"## {tag}", texts.get(tag, ""), rows]
    return page("REST API", *(part for part in parts if part))


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "rules.md": rules_page,
    "timings.md": timings_page,
    "events.md": events_page,
    "api.md": api_page,
}


def stale_pages(directory: Path) -> dict[str, str]:
    """Return {name: wanted text} of the pages that are missing or say something else."""
    wanted = {name: render() for name, render in PAGES.items()}
    return {
        name: text
        for name, text in wanted.items()
        if not (directory / name).exists() or (directory / name).read_text() != text
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the stale pages, or with `--check` only name them."""
    parser = argparse.ArgumentParser(description=first_sentence(__doc__))
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    parser.add_argument("--directory", type=Path, default=REFERENCE, help="where the pages are")
    options = parser.parse_args(arguments)
    stale = stale_pages(options.directory)
    for name, text in stale.items():
        if options.check:
            sys.stderr.write(f"{name} is stale: run make docs.\n")
        else:
            options.directory.mkdir(parents=True, exist_ok=True)
            (options.directory / name).write_text(text)
            sys.stdout.write(f"{options.directory / name}\n")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
