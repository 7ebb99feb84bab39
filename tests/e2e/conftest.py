"""One lab for all end-to-end tests: brought up once, repaired before each of them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.layout import NODES
from tests.e2e.driver import LAB_TEST_LIMIT_S, STEADY, Failed, Lab, claim_machine
from tests.e2e.judging import begin_judging, end_judging

LOGS = ("agent", "guard", "mail", "keepalived", "policy")
TAIL_LINES = 40


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test the time to bring a lab up, and up again."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(LAB_TEST_LIMIT_S))


@pytest.fixture(scope="session")
def lab_once() -> Iterator[Lab]:
    """Bring a lab up for the whole session; another session's labs are waited for."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    claim_machine()
    lab = Lab("--db", os.environ.get("RELAY_LAB_DB", "sqlite"), *STEADY)
    try:
        bring_up(lab)
        yield lab
    finally:
        lab.down()


def bring_up(lab: Lab) -> None:
    """Try twice: one bad start would take all tests along; it is told with the nodes' logs."""
    try:
        lab.up()
    except Failed as error:
        logs = "\n".join("\n".join(section) for section in _ends_of_logs(lab))
        warnings.warn(f"The lab came up at the second try only. {error}\n{logs}", stacklevel=1)
        lab.up()


@pytest.fixture
def lab(lab_once: Lab) -> Lab:
    """Give a healthy pair with empty queues; one that cannot be repaired is brought up anew."""
    try:
        lab_once.repair()
    except (LabError, AssertionError) as error:
        warnings.warn(f"The lab was beyond repair. {error}", stacklevel=1)
        bring_up(lab_once)
    return lab_once


@pytest.fixture(scope="module")
def _judged_no_more(lab_once: Lab) -> Iterator[None]:
    """Leave a lab that judges no mail to the tests of other files."""
    yield
    lab_once.repair()
    end_judging(lab_once)


@pytest.fixture
def judged(lab: Lab, _judged_no_more: None) -> Lab:
    """Give a healthy pair whose mail is judged, by an empty policy."""
    begin_judging(lab)
    return lab


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of both nodes' logs to the report of a test that failed."""
    report = yield
    lab = getattr(item, "funcargs", {}).get("lab")
    if call.when == "call" and report.failed and isinstance(lab, Lab):
        report.sections += _ends_of_logs(lab)
    return report


def _ends_of_logs(lab: Lab) -> list[tuple[str, str]]:
    return [
        (f"{service}.log of {node}", "\n".join(lab.log(node, service).splitlines()[-TAIL_LINES:]))
        for node in NODES
        for service in LOGS
    ]
