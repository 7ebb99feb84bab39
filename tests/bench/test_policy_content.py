"""What reading mails and searching them for threats costs: 5 kB and 50 kB of several shapes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.attachments import find_dangerous
from nodeagent.policy.engine.mime import read_content
from nodeagent.policy.engine.threats import ThreatSet
from nodeagent.policy.model import Message
from tests.bench.figures import show
from tests.policy.corpus.building import PDF, mail, message_of, zipped

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

ROUNDS = 300
LINE = "A line of an ordinary mail, of which there are many, with nothing in it.\n"
GERMAN = "Eine Zeile einer gewöhnlichen Mail, wie sie in Köln geschrieben wird, nichts weiter.\n"
ROW = (
    '<tr><td align="left" style="padding:0 10px; color:#333333; font-family:Arial,sans-serif; '
    'font-size:14px; line-height:21px" class="col mobile"><a href="https://news.example.com/t/{n}?u=8&amp;c=2"'
    ' style="color:#0000ee" target="_blank">Article {n}</a>, and what it is about, in some words '
    "that a reader may like to read before the click, as newsletters have them&nbsp;...</td></tr>\n"
)


def page(size: int) -> str:
    """Return a newsletter of about that many bytes."""
    rows = "".join(ROW.format(n=number) for number in range(size // len(ROW) + 1))
    style = "<style>.col { width:100% !important } a { color:#00e }</style>"
    return f"<html><head>{style}</head><body><table>{rows}</table></body></html>"


def lines(line: str, size: int) -> str:
    """Return that many bytes of text."""
    return line * (size // len(line.encode()))


def shapes(size: int) -> dict[str, Message]:
    """Return mails of about that many bytes."""
    half = size // 2
    files = (
        ("a.pdf", "application/pdf", PDF + bytes(half)),
        ("b.zip", "application/zip", zipped(*(f"{number}.txt" for number in range(5)))),
    )
    mails = {
        "plain": mail("Hello", lines(LINE, size)),
        "German, quoted-printable": mail("Grüße", lines(GERMAN, size)),
        "text and HTML": mail("News", lines(LINE, size // 5), page(size * 4 // 5)),
        "HTML": mail("News", html=page(size)),
        "with files": mail("Files", lines(LINE, half), attachments=files),
    }
    return {name: message_of(raw) for name, raw in mails.items()}


def spread_us(work: Callable[[], object]) -> tuple[float, float]:
    """Return median and 99th percentile of the processor's time for a call, in microseconds."""
    took: list[float] = []
    for _ in range(ROUNDS):
        before = time.thread_time()
        work()
        took.append((time.thread_time() - before) * 1e6)
    return statistics.median(took), statistics.quantiles(took, n=100)[98]


@pytest.mark.parametrize("size", [5_000, 50_000])
def test_reading_and_searching_a_mail(size: int):
    """A mail of 5 kB is read well under 150 µs, one of 50 kB under 1 ms, on an idle core."""
    threats, settings = ThreatSet.compile(), PolicySettings()
    for name, message in shapes(size).items():
        content = read_content(message)
        figures = {
            "read": spread_us(lambda one=message: read_content(one)),
            "threats": spread_us(lambda one=content: threats.find(one)),
            "attachments": spread_us(lambda one=content: find_dangerous(one, settings)),
        }
        text = ", ".join(f"{what} {mid:.0f} ({high:.0f})" for what, (mid, high) in figures.items())
        show(f"{len(message.body) / 1000:.0f} kB {name}: median (p99) in µs of CPU", text)
        assert content.texts
        assert not content.faults
