"""Every refusal of the code behind the pages of policy and alerts has a German sentence."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from controlplane.gui.language import Localizer
from controlplane.gui.sentences import translate_sentence
from controlplane.store.policy_kinds import BY_NAME

ROOT: Final = Path(__file__).parents[2]
GERMAN: Final = Localizer("de")
BEHIND: Final = (
    "controlplane/store/policy_*.py",
    "controlplane/store/alert_*.py",
    "controlplane/store/state_files.py",
    "controlplane/store/log_search.py",
    "controlplane/store/queue_actions.py",
    "controlplane/store/queue_headers.py",
    "controlplane/core/policy_*.py",
    "controlplane/core/csv_lists.py",
    "controlplane/core/times.py",
    "controlplane/integrations/notifications.py",
    "controlplane/api/quarantine.py",
    "controlplane/api/mail_security/log*.py",
    "controlplane/api/alerts.py",
    "controlplane/gui/policy_*.py",
    "controlplane/gui/alerts.py",
    "controlplane/gui/forms.py",
    "controlplane/gui/listings.py",
    "controlplane/gui/message_choice.py",
)
"""What the pages call; other packages are tried by sending forms."""
REFUSALS: Final = frozenset({"Invalid", "Conflict", "NotFound", "BadValue", "ValueError"})
TITLE: Final = "kind.title"
NO_PAGE: Final = {
    "There is no such section any more; fetch the manifest anew.": "nodes fetch sections",
    "7; nothing was changed.": "an import's count, which a form in German shows",
    "give either after or newer_than": "no page asks for both",
    "give either messages or a filter": "a form sends one of them",
}
"""What no page can be answered with, and why."""


def sentences() -> Iterator[tuple[str, str]]:
    """Give each sentence with its place; a value in it is 7."""
    for pattern in BEHIND:
        found = sorted(ROOT.glob(pattern))
        assert found, pattern
        for path in found:
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for call in ast.walk(tree):
                if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
                    continue
                if call.func.id in REFUSALS and call.args:
                    place = f"{path.relative_to(ROOT)}:{call.lineno}"
                    yield from ((place, one) for one in said(call.args[0]))


def said(node: ast.expr) -> Iterator[str]:
    """Give the sentences that an argument stands for; none for a name that is worked out."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if isinstance(node, ast.JoinedStr):
        for title in {kind.title for kind in BY_NAME.values()}:
            yield "".join(
                str(part.value)
                if isinstance(part, ast.Constant)
                else title
                if isinstance(part, ast.FormattedValue) and ast.unparse(part.value) == TITLE
                else "7"
                for part in node.values
            )


FOUND: Final = sorted({(text, place) for place, text in sentences() if " " in text})


def test_sentences_are_found() -> None:
    """A walk that finds nothing proves nothing; what stands apart is still said somewhere."""
    assert len(FOUND) > 60
    assert NO_PAGE.keys() <= {text for text, _place in FOUND}


@pytest.mark.parametrize(
    ("text", "place"), [one for one in FOUND if one[0] not in NO_PAGE], ids=lambda one: one[:40]
)
def test_a_refusal_has_a_translation(text: str, place: str) -> None:
    """By its own words or by those around its values."""
    whole = f"{text[:1].upper()}{text[1:].rstrip('.')}."
    assert translate_sentence(GERMAN, whole) != whole, place
