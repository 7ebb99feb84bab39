"""The manuals as pages: the Markdown that is shipped with the program, made into HTML.

Theory of operation. What is asked for is looked up among the pages that were found at the first
request, so that no path leads to another file. A page is at `/manuals/` and its own path, therefore
its links to other pages need no change; a link to what is not shipped becomes plain text. HTML
within a page is shown as it is written.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from fastapi import Response
from markdown_it import MarkdownIt
from markdown_it.common.utils import escapeHtml
from markdown_it.token import Token

from controlplane.errors import NotFound
from controlplane.gui.shell import ReadShell, page_router

router = page_router()

PARTS: Final = ("README.md", "tutorial.md", "howto", "explanation", "reference", "adr")
"""What of `docs/` is shipped; the rest is pictures and what makes them."""
TABLE: Final = '<div class="table-responsive" tabindex="0" role="group"><table class="table">\n'


@dataclass(frozen=True)
class Manual:
    """One page: its heading, and what stands below it as HTML."""

    title: str
    html: str


@router.get("/manuals/{path:path}")
def manual_page(path: str, shell: ReadShell) -> Response:
    """Show one page of the manuals."""
    if path not in manual_paths():
        raise NotFound("The manuals have no such page.")
    return shell.page("manual.html", manual=read_manual(path))


@cache
def manual_paths() -> frozenset[str]:
    """Return the paths of all pages, as `howto/monitor.md`."""
    root = _root()
    files = [file for part in PARTS for file in (root / part, *(root / part).glob("*.md"))]
    return frozenset(file.relative_to(root).as_posix() for file in files if file.is_file())


@cache
def read_manual(path: str) -> Manual:
    """Return one of `manual_paths`."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for name, rule in RULES.items():
        markdown.add_render_rule(name, rule)
    parsed = markdown.parse((_root() / path).read_text("utf-8"))
    begin = [token.tag for token in parsed].index("h1")  # a remark to writers may stand above it
    title, tokens = parsed[begin + 1], parsed[begin + 3 :]
    _name_headings(tokens)
    for inline in tokens:
        _unlink(inline.children or (), path)
    return Manual(_plain(title), markdown.renderer.render(tokens, markdown.options, {}))


def _root() -> Path:
    package = Path(__file__).parents[1]
    installed = package / "manuals"
    return installed if installed.is_dir() else package.parent / "docs"


def _name_headings(tokens: Sequence[Token]) -> None:
    """Give headings the ids that links name them by: lower case, words joined by hyphens."""
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            words = re.sub(r"[^\w\s-]", "", _plain(inline).lower()).strip()
            opening.attrSet("id", re.sub(r"\s", "-", words))


def _plain(inline: Token) -> str:
    return "".join(one.content for one in inline.children or ())


def _unlink(tokens: Sequence[Token], path: str) -> None:
    """Make plain text of the links that lead to no page."""
    is_page = True
    for token in tokens:
        if token.type == "link_open":
            is_page = is_manual(str(token.attrGet("href")), path)
        if token.type in {"link_open", "link_close"} and not is_page:
            token.tag, token.attrs = "span", {}


def is_manual(href: str, path: str) -> bool:
    """Tell whether a link on the page at `path` leads somewhere: within, to a page, or outside."""
    target = href.partition("#")[0]
    if not target or target.startswith("https://"):
        return True
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) in manual_paths()


def _code(_self: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Return a block of code that is scrolled where it is too wide, by the keyboard too."""
    return f'<pre tabindex="0"><code>{escapeHtml(tokens[index].content)}</code></pre>\n'


def _cell(_self: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Return a cell's begin without the style of its column, which our pages may not have."""
    scope = ' scope="col"' if tokens[index].tag == "th" else ""
    return f"<{tokens[index].tag}{scope}>"


RULES: Final = {
    "fence": _code,
    "code_block": _code,
    "th_open": _cell,
    "td_open": _cell,
    "table_open": lambda *_: TABLE,
    "table_close": lambda *_: "</table></div>\n",
}
