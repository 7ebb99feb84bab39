"""What Postfix gets for one setting: the lines that the rendering adds for it, secrets hidden.

Theory of operation. A cluster of one invented node is rendered with the setting and without it; the
difference is what the setting brings. So a page that explains a form shows what really will be
written, and no rule of the rendering stands in two places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from controlplane.core.diff import diff
from controlplane.core.render import POSTFIX_DIRECTORY, render
from controlplane.core.spec import ClusterSpec, NodeSpec
from controlplane.core.validation import validate
from nodeagent.core.contract import ConfigFile

NODE: Final = NodeSpec(name="node-a", address="192.0.2.1")
SETTING_NAMES: Final = (
    "message_size_limit",
    "maximal_queue_lifetime",
    "bounce_queue_lifetime",
    "minimal_backoff_time",
    "maximal_backoff_time",
    "queue_run_delay",
    "inet_protocols",
    "mydomain",
)


@dataclass(frozen=True)
class RenderedLines:
    """Lines of one file."""

    path: str
    lines: tuple[str, ...]


def lines_of(changes: Mapping[str, Any]) -> tuple[RenderedLines, ...]:
    """Return the lines that these fields of a spec add to Postfix's files; () when not valid."""
    spec = ClusterSpec(nodes=(NODE,), **changes)
    if validate(spec):
        return ()
    found = []
    for one in diff(_plain(), render(spec, NODE.name)):
        lines = tuple(
            line[1:] for line in one.text.splitlines()[2:] if line.startswith("+") and line != "+"
        )
        if lines:
            found.append(RenderedLines(one.path, lines))
    return tuple(found)


def settings_lines(changes: Mapping[str, Any]) -> tuple[RenderedLines, ...]:
    """Return the lines of main.cf that come from shared settings; () when they are not valid."""
    spec = ClusterSpec(nodes=(NODE,), **changes)
    if validate(spec):
        return ()
    path = f"{POSTFIX_DIRECTORY}/main.cf"
    main = next(file for file in render(spec, NODE.name) if file.path == path)
    lines = tuple(
        line for line in main.content.splitlines() if line.partition(" ")[0] in SETTING_NAMES
    )
    refused = lines_of({name: changes[name] for name in REFUSALS if name in changes})
    return (RenderedLines(path, lines), *(one for one in refused if one.path != path))


REFUSALS: Final = ("sender_default", "sender_default_reply_text", "postmaster")


@cache
def _plain() -> tuple[ConfigFile, ...]:
    return render(ClusterSpec(nodes=(NODE,)), NODE.name)
