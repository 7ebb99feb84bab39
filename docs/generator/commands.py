"""The page of commands, read from the programs that take them."""

from __future__ import annotations

import inspect
from enum import Enum
from importlib import import_module
from typing import Any, Final

import typer.main

from docs.generator.markdown import first_sentence, page, shown, table

CLI_INTRODUCTION: Final = """
Every command prints an error as one sentence on standard error and ends with a code other than 0.
`--help` shows the same as this page.
"""
COMMANDS: Final = {
    "relayctl": "controlplane.relayctl.cli",
    "relay-agent": "nodeagent.cli",
    "relay-controlplane": "controlplane.cli",
    "relay-lab": "lab.cli",
}
PLAIN_COMMANDS: Final = {
    "relay-guard": ("nodeagent.guard", "relay-guard run", "systemd starts it; it has no options."),
    "relay-policy": ("nodeagent.policy.hook", "relay-policy run", "systemd starts it, as root."),
    "relay-receive": (
        "nodeagent.receive",
        "relay-receive [--relay DIR] [--state DIR] [--owner USER] PEER",
        "sshd starts it as the forced command of a peer's key; nobody types it.",
    ),
}


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
    default = "required" if parameter.required else shown(parameter.default)
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
