"""One lab for all tests that look at a real cluster with a real browser behind it.

`visit(...)` opens a page, signed in as the lab's admin. `photograph(page, name)` takes the pictures
of docs/tour: `make tour` keeps them there, every other run in a directory of the test's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, Page, expect

from lab.layout import CONTROL_PLANE_URL
from lab.settings import load
from tests.browser.opening import Opener
from tests.e2e.conftest import bring_up, lab, pytest_runtest_makereport
from tests.e2e.driver import LAB_TEST_LIMIT_S, STEADY, Lab, claim_machine

__all__ = ["lab", "pytest_runtest_makereport"]

PATIENCE_MS = 60_000
LARGEST_PICTURE_BYTES = 150 * 1024
Photograph = Callable[[Page, str], None]


class Visit(Protocol):
    """Opens a page of the lab's control plane."""

    def __call__(self, path: str = "/", *, signed_in: bool = True, **look: Any) -> Page:
        """Open a path; `look` is what `Opener.open` takes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave the fast tests without a lab, and give these the time to bring one up."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(LAB_TEST_LIMIT_S))


@pytest.fixture(scope="session")
def lab_once(_assets: None) -> Iterator[Lab]:
    """Bring a lab up for these tests, with pages that have their files."""
    del _assets
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    claim_machine()
    made = Lab("--db", "postgres", *STEADY)
    try:
        bring_up(made)
        yield made
    finally:
        made.down()


@pytest.fixture(autouse=True)
def _patience() -> Iterator[None]:
    """Wait longer than on one machine's own processes: a whole cluster answers."""
    expect.set_options(timeout=PATIENCE_MS)
    yield
    expect.set_options(timeout=15_000)


@pytest.fixture
def visit(chromium: Browser, lab: Lab) -> Iterator[Visit]:
    """Give a function that opens pages; what a console says fails the test."""
    opener = Opener(chromium, CONTROL_PLANE_URL)
    tokens: list[str] = []

    def token() -> str:
        if not tokens:
            known = load()
            asked = {"user": known.admin_user, "password": known.admin_password}
            tokens.append(lab.api().call("POST", "session", asked)["token"])
        return tokens[0]

    def opened(path: str = "/", *, signed_in: bool = True, **look: Any) -> Page:
        page = opener.open(path, token=token() if signed_in else "", **look)
        page.set_default_timeout(PATIENCE_MS)
        return page

    yield opened
    opener.close()
    assert opener.errors == []


@pytest.fixture
def photograph(tmp_path: Path) -> Photograph:
    """Give a function that keeps what a page shows as a small PNG."""
    directory = Path(os.environ.get("RELAY_TOUR_DIR", tmp_path))

    def taken(page: Page, name: str) -> None:
        picture = page.screenshot(animations="disabled", scale="css")
        assert len(picture) < LARGEST_PICTURE_BYTES, f"{name}: {len(picture)} bytes"
        (directory / f"{name}.png").write_bytes(picture)

    return taken
