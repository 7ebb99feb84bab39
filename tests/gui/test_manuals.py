"""The manuals as pages: every one is shipped, opens, and leads only to what is there."""

from __future__ import annotations

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin

import pytest
from fastapi.testclient import TestClient

from controlplane.gui.manuals import PARTS, Manual, is_manual, manual_paths, read_manual
from controlplane.gui.system import GUIDES

REPOSITORY = Path(__file__).parents[2]
PATHS = sorted(manual_paths())


class Page(HTMLParser):
    """What a page has: its ids, where its links lead, and all its attributes' names."""

    def __init__(self, manual: Manual) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.tags: set[str] = set()
        self.feed(manual.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in one element."""
        found = {name: value or "" for name, value in attrs}
        self.tags.add(tag)
        self.attributes |= found.keys()
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []


def test_all_of_the_documentation_but_its_pictures_is_there() -> None:
    """Everything that the index names, except the tour."""
    assert {"README.md", "tutorial.md", "howto/monitor.md", "reference/cli.md"} <= set(PATHS)
    docs = {file.relative_to(REPOSITORY / "docs").as_posix() for file in docs_files()}
    assert docs - set(PATHS) == {"tour.md"}


def docs_files() -> list[Path]:
    """Return every page of the repository's documentation."""
    docs = REPOSITORY / "docs"
    return [*docs.glob("*.md"), *docs.glob("*/*.md")]


def test_a_wheel_has_what_the_pages_need() -> None:
    """Whoever installs it has no docs directory."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    shipped = {one: to for one, to in included.items() if one.startswith("docs/")}
    assert shipped == {f"docs/{part}": f"controlplane/manuals/{part}" for part in PARTS}


@pytest.mark.parametrize("path", PATHS)
def test_every_page_has_a_heading_and_links_that_lead_somewhere(path: str) -> None:
    """To a page that is shipped and a heading that it has, or out of the program by HTTPS."""
    manual = read_manual(path)
    page = Page(manual)
    assert manual.title
    assert len(set(page.ids)) == len(page.ids)
    assert not page.attributes & {"style", "onclick"}
    assert not page.tags & {"script", "img", "iframe", "h1"}
    for link in page.links:
        if link.startswith("https://"):
            continue
        target, _, heading = urljoin(path, link).partition("#")
        assert target in manual_paths(), link
        assert not heading or heading in Page(read_manual(target)).ids, link


@pytest.mark.parametrize(
    ("href", "leads"),
    [
        ("../explanation/ownership.md", True),
        ("monitor.md#what-the-figures-mean", True),
        ("#let-prometheus-in", True),
        ("https://example.org/", True),
        ("../tour.md", False),
        ("../../compose/monitoring/alerts.yml", False),
        ("http://example.org/", False),
        ("/etc/passwd", False),
        ("//example.org/x", False),
        ("../generate.py", False),
    ],
)
def test_a_link_to_what_is_not_shipped_is_text(href: str, leads: bool) -> None:
    """A reader is not led to an error page."""
    assert is_manual(href, "howto/monitor.md") is leads


def test_a_page_opens_and_scrolls_by_the_keyboard(watched: TestClient) -> None:
    """From the page about the program; in English, whatever language the GUI has."""
    about = watched.get("/about").text
    for path, _ in GUIDES:
        assert f'href="/manuals/{path}"' in about
        assert watched.get(f"/manuals/{path}").status_code == 200
    page = watched.get("/manuals/howto/monitor.md").text
    assert "Monitor the cluster</h1>" in page
    assert '<article class="card" lang="en">' in page
    assert '<h2 id="let-prometheus-in">' in page
    assert '<div class="table-responsive" tabindex="0"' in page
    assert re.search(r'<pre tabindex="0"><code>relayctl tokens create', page)
    assert 'href="../tour.md"' not in watched.get("/manuals/README.md").text


@pytest.mark.parametrize(
    "path",
    ["", "nothing.md", "tour.md", "generate.py", "../README.md", "..%2FREADME.md", "%2e%2e/x.md"],
)
def test_no_other_file_is_a_page(watched: TestClient, path: str) -> None:
    """What is asked for is looked up, and never opened as a path."""
    answer = watched.get(f"/manuals/{path}")
    assert answer.status_code == 404
    assert "The manuals have no such page." in answer.text or "../" in path or "%2e" in path


def test_a_page_is_for_who_is_signed_in(anonymous: TestClient) -> None:
    """As all pages are: they say which version runs here."""
    answer = anonymous.get("/manuals/README.md", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, answer.headers["location"])
    assert answer.headers["location"].startswith("/login")
