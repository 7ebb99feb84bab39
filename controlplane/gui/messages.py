"""Keeps the catalogues complete: `python -m controlplane.gui.messages [--check]`.

It collects every message of the templates and of the Python files of the GUI, and brings each
catalogue under `locale` in line: new messages are added without a translation, for a person to
write; what nobody says any more goes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_from_file
from babel.messages.pofile import read_po, write_po
from jinja2.ext import babel_extract

from controlplane.core import alert_rules
from controlplane.core.attention import RULES
from controlplane.gui.language import DEFAULT_LANGUAGE, LANGUAGES, LOCALE_DIRECTORY
from nodeagent.policy.engine.threats import THREAT_RULES

GUI: Final = Path(__file__).parent
KEYWORDS: Final = {"_": None, "gettext": None, "ngettext": (1, 2), "N_": None}
PLACE: Final = re.compile(r"%\((\w+)\)s")


def main() -> None:
    """Update the catalogues, or with `--check` only say what is missing (exit code 1)."""
    parser = argparse.ArgumentParser(description="Update the GUI's catalogues.")
    parser.add_argument("--check", action="store_true", help="change nothing; 1: incomplete")
    only_check = parser.parse_args().check
    problems = []
    for language in sorted(set(LANGUAGES) - {DEFAULT_LANGUAGE}):
        if not only_check:
            update(language)
        problems += [f"{language}: {problem}" for problem in problems_of(language)]
    sys.stdout.write("".join(f"{problem}\n" for problem in problems))
    raise SystemExit(1 if problems else 0)


def collect() -> Catalog:
    """Return a catalogue of every message that the GUI can say, without translations."""
    catalog = Catalog(fuzzy=False)
    for texts in sorted([*_of_modules(), *_of_templates(), *_of_rules()], key=str):
        catalog.add(texts)
    return catalog


def _of_modules() -> Iterator[Any]:
    for path in sorted(GUI.glob("*.py")):
        for found in extract_from_file("python", path, keywords=KEYWORDS):
            yield found[1]


def _of_templates() -> Iterator[Any]:
    options = {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}
    for path in sorted((GUI / "templates").rglob("*.html")):
        source = BytesIO(path.read_bytes())
        for _line, function, message, _comments in babel_extract(
            source, list(KEYWORDS), (), options
        ):
            texts = [message] if isinstance(message, str) else list(message or ())
            if function == "ngettext":
                yield tuple(texts[:2])
            elif texts and texts[0]:
                yield texts[0]


def _of_rules() -> Iterator[str]:
    """Yield what rules say that are no part of the GUI: it translates them."""
    for one in alert_rules.RULES:
        yield one.title
        yield one.explanation
    for threat in THREAT_RULES:
        yield threat.description
    for rule in RULES:
        yield rule.message
        yield rule.step


def path_of(language: str) -> Path:
    """Return where a language's catalogue is."""
    return LOCALE_DIRECTORY / language / "LC_MESSAGES" / "messages.po"


def read_catalog(language: str) -> Catalog:
    """Return a language's catalogue as it is on the disk."""
    with path_of(language).open("rb") as source:
        return read_po(source, locale=language)


def update(language: str) -> None:
    """Bring one catalogue in line with what the GUI says."""
    wanted, path = collect(), path_of(language)
    present = read_catalog(language) if path.is_file() else Catalog(locale=language)
    fresh = Catalog(locale=language, fuzzy=False, header_comment="")
    for message in wanted:
        if message.id:
            old = present.get(message.id)
            fresh.add(message.id, old.string if old is not None else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as target:
        write_po(target, fresh, omit_header=True, sort_output=True, width=100)


def problems_of(language: str) -> list[str]:
    """Return what is wrong with a catalogue: a sentence each."""
    wanted, present = collect(), read_catalog(language)
    said, known = _ids(wanted), _ids(present)
    return [
        *(f"{message!r} is missing" for message in sorted(said - known)),
        *(f"{message!r} is said by nobody" for message in sorted(known - said)),
        *(problem for message in present if message.id for problem in _problems(message)),
    ]


def _ids(catalog: Catalog) -> set[str]:
    return {_first(message.id) for message in catalog if message.id}


def _first(texts: Any) -> str:
    return str(texts) if isinstance(texts, str) else str(texts[0])


def _problems(message: Message) -> Iterator[str]:
    """Find a message without a translation, or with other places for values than the source."""
    sources = [message.id] if isinstance(message.id, str) else list(message.id)
    found = message.string
    strings = [found] if isinstance(found, str) else list(found or ())
    if not strings or not all(strings) or message.fuzzy:
        yield f"{sources[0]!r} is not translated"
        return
    for string in strings:
        if set(PLACE.findall(string)) != set(PLACE.findall(sources[-1])):
            yield f"{sources[0]!r} has other places for values"


if __name__ == "__main__":
    main()
