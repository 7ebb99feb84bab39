"""What the policy engine's lists, words and patterns cost: memory, compiling, asking.

All is measured in the processor's time of one core, so that other work on the host does not count.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from nodeagent.policy.document import Badword
from nodeagent.policy.engine.automata import work_of
from nodeagent.policy.engine.lists import ListSection
from nodeagent.policy.engine.words import compile_badwords
from tests.bench.figures import quantile, show, spread_ms
from tests.bench.policy_lists import badwords, entries, lists, text, word
from tests.fakes.hostile_patterns import ACCEPTED, REFUSED, hostile_texts

ROOT = Path(__file__).resolve().parents[2]
MEMORY_MIB = 100
SECTION_S = 0.3
HOSTILE_MS = 50
HOSTILE_LEN = 200_000
MAIL_LEN = 50_000
MAILS = 300
PROBES = 20_000
NOW_S = 0.0

pytestmark = pytest.mark.bench


def taken_s(call: Callable[[], object]) -> float:
    """Return the processor's time that a call takes."""
    began = time.process_time()
    call()
    return time.process_time() - began


def mean_us(call: Callable[[object], object], probes: Iterable[object]) -> float:
    """Return what a call takes for one of many probes."""
    many = list(probes)
    return taken_s(lambda: [call(one) for one in many]) / len(many) * 1e6


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("networks", "1,000,000 networks"),
        ("names", "1,000,000 domains and addresses"),
        ("words", "10,000 words, after 20 mails"),
        ("both", f"1,000,000 networks and 10,000 words (aim: {MEMORY_MIB})"),
    ],
)
def test_memory(what: str, shown: str) -> None:
    """Each in a process of its own, above what that process had before."""
    command = [sys.executable, "-m", "tests.bench.policy_lists", what]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    used_mib = float(done.stdout)
    show(f"memory: {shown}", f"{used_mib:.0f} MiB")
    assert used_mib <= MEMORY_MIB


@pytest.mark.parametrize("kind", ["networks", "names"])
def test_compiling_a_section(kind: str) -> None:
    """One of 65,536 entries: an edit compiles one."""
    made = entries(kind, 0)
    took_s = taken_s(lambda: ListSection.compile(made))
    show(f"compile 65,536 {kind} (aim: {SECTION_S * 1000:.0f})", f"{took_s * 1000:.0f} ms")


def test_asking_a_million_entries() -> None:
    """In 16 sections; nearly all probes are on no list."""
    dice = random.Random(2)
    networks = lists("networks")
    ipv4 = [IPv4Address(dice.getrandbits(32)) for _ in range(PROBES)]
    ipv6 = [IPv6Address(0x2000 << 112 | dice.getrandbits(125)) for _ in range(PROBES)]
    show(
        "ask for an IPv4 address", f"{mean_us(lambda ip: networks.find_ip(ip, NOW_S), ipv4):.1f} us"
    )
    show(
        "ask for an IPv6 address", f"{mean_us(lambda ip: networks.find_ip(ip, NOW_S), ipv6):.1f} us"
    )
    names = lists("names")
    domains = [f"mx.{word(dice)}.example.com" for _ in range(PROBES)]
    addresses = [f"{word(dice)}@{one}" for one in domains]
    show(
        "ask for a domain", f"{mean_us(lambda one: names.find_domain(one, NOW_S), domains):.1f} us"
    )
    show(
        "ask for an address",
        f"{mean_us(lambda one: names.find_address(one, NOW_S), addresses):.1f} us",
    )


def test_ten_thousand_words() -> None:
    """Compiling them, and searching many different mails of 50 kB."""
    words = badwords()
    show("compile 10,000 words", f"{taken_s(lambda: compile_badwords(words)) * 1000:.0f} ms")
    compiled = compile_badwords(words)
    assert compiled.problems == ()
    dice = random.Random(3)
    mails = [text(dice, MAIL_LEN) for _ in range(MAILS)]
    first_ms = taken_s(lambda: compiled.find(mails[0])) * 1000
    each_ms = [taken_s(lambda mail=mail: compiled.find(mail)) * 1000 for mail in mails]
    show("search 50 kB, the first mail", f"{first_ms:.1f} ms")
    show("search 50 kB, all mails", spread_ms(each_ms))
    show("search 50 kB, the second half", f"p99 {quantile(each_ms[MAILS // 2 :], 0.99):.1f} ms")


def searched_ms(pattern: str) -> tuple[float, float]:
    """Return the longest first and later search of a pattern in hostile texts of 200,000."""
    first_ms, later_ms = [], []
    for hostile in hostile_texts(pattern, HOSTILE_LEN):
        compiled = compile_badwords([Badword(id=1, pattern=pattern, is_regex=True)])
        assert len(compiled) == 1
        first_ms.append(taken_s(partial(compiled.find, hostile)) * 1000)
        later_ms.append(taken_s(partial(compiled.find, hostile)) * 1000)
    return max(first_ms), max(later_ms)


def test_hostile_expressions() -> None:
    """Every expression that is accepted, in the texts that ask the most of it."""
    worst_ms = 0.0
    for pattern in ACCEPTED:
        first_ms, later_ms = searched_ms(pattern)
        worst_ms = max(worst_ms, first_ms, later_ms)
        states = work_of(pattern).states
        show(f"`{pattern[:40]}` ({states} states)", f"{first_ms:.1f} ms, then {later_ms:.1f} ms")
    checking_ms = [taken_s(lambda one=one: work_of.__wrapped__(one)) * 1000 for one in REFUSED]
    show("refusing an expression, the longest", f"{max(checking_ms):.0f} ms")
    show(f"the worst accepted one (aim: {HOSTILE_MS})", f"{worst_ms:.1f} ms")
    assert worst_ms <= HOSTILE_MS
