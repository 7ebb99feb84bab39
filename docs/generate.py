"""Writes docs/reference/ from the program itself: commands, settings, rules, timings, events, REST.

`python docs/generate.py` writes what has changed; `--check` writes nothing and fails when a page is
not what the program says today. Nothing in docs/reference/ is edited by hand.
"""  # noqa: INP001 - a script beside what it writes

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
if str(REPOSITORY) not in sys.path:
    sys.path.insert(0, str(REPOSITORY))

from pydantic import BaseModel  # noqa: E402 - the path above comes first
from pydantic.fields import FieldInfo  # noqa: E402

from docs.generator.commands import cli_page  # noqa: E402
from docs.generator.markdown import first_sentence, page, shown, table  # noqa: E402
from docs.generator.protocol import rules_page, timings_page  # noqa: E402
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS  # noqa: E402
from nodeagent.settings import AgentSettings  # noqa: E402

REFERENCE: Final = REPOSITORY / "docs" / "reference"
API_INTRODUCTION: Final = """
The control plane serves the whole document at `/openapi.json`, and as a page at `/docs`.
"""


def _settings_table(model: type[BaseModel], prefix: str) -> str:
    def row(name: str, field: FieldInfo) -> tuple[str, str, str]:
        variable = f"{prefix}{name}".upper()
        return f"`{variable}`", shown(field.default), field.description or ""

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
