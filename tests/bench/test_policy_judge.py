"""How long the engine takes for a mail at DATA with 10,000 bad words, and what compiling costs."""

from __future__ import annotations

import base64
import itertools
import quopri
import random
import time
from collections.abc import Callable
from ipaddress import ip_address

import pytest

from nodeagent.policy.document import Badword, ListEntry, Manifest, PolicySettings, SectionKind
from nodeagent.policy.engine.case import Given
from nodeagent.policy.engine.judge import judge
from nodeagent.policy.engine.policy import CompiledPolicy, compile_policy
from nodeagent.policy.engine.sections import PackedSection, pack_section
from nodeagent.policy.model import Client, Envelope, Message, Session, Stage
from nodeagent.policy.raw_message import from_bytes
from tests.bench.figures import quantile, show, spread_ms

WORDS = 10_000
LISTED = 65_536
MAILS = 400
WARM_UP = 40
LIMIT_MS = 2.0
ENVELOPE = Envelope("alice@example.org", ("bob@example.com",))
SESSION = Session(Client(ip_address("203.0.113.7"), 2525, "mail.example.org"), "mail.example.org")
VOCABULARY = 20_000
_CONSONANTS, _VOWELS = "bcdfghklmnprstvw", "aeiou"


def _word(chance: random.Random, syllables: int) -> str:
    return "".join(chance.choice(_CONSONANTS) + chance.choice(_VOWELS) for _ in range(syllables))


def _vocabulary() -> tuple[list[str], list[float]]:
    """Return a language's words and how often they are used (Zipf's law)."""
    chance = random.Random(2)
    words = [_word(chance, 1 + min(4, number.bit_length() // 4)) for number in range(VOCABULARY)]
    return words, list(itertools.accumulate(1 / number for number in range(1, VOCABULARY + 1)))


LANGUAGE, OFTEN = _vocabulary()


def _sections(chance: random.Random) -> list[PackedSection]:
    words = dict.fromkeys(LANGUAGE[-WORDS // 10 :])  # a tenth of them does occur, if rarely
    while len(words) < WORDS:
        words[_word(chance, 5)] = None
    entries = [Badword(id=number, pattern=word) for number, word in enumerate(words, 1)]
    listed = [
        ListEntry(id=number, value=f"100.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        for number in range(1, LISTED)
    ]
    return [
        pack_section(SectionKind.BADWORDS, 0, entries),
        pack_section(SectionKind.LIST, 0, listed),
    ]


def _manifest(packed: list[PackedSection], revision: int = 1) -> tuple[Manifest, dict[str, bytes]]:
    manifest = Manifest(
        revision=revision,
        settings=PolicySettings(is_active=True, own_domains=("example.com",)),
        sections=tuple(one.section for one in packed),
    )
    return manifest, {one.section.sha256: one.body for one in packed}


def _text(chance: random.Random, size: int) -> str:
    words = chance.choices(LANGUAGE, cum_weights=OFTEN, k=size // 4)
    lines = (", ".join(words[start : start + 10]) for start in range(0, len(words), 10))
    return "\r\n".join(lines)[:size]


def _plain(chance: random.Random, size: int) -> bytes:
    return b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + _text(chance, size).encode()


def _alternative(chance: random.Random, size: int) -> bytes:
    text = _text(chance, size // 3)
    lines = "".join(f"<p style='margin:0'>{line}</p>\r\n" for line in text.split("\r\n"))
    html = f"<html><head><style>p {{ color: black }}</style></head><body>{lines}</body></html>"
    return (
        b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + text.encode() + b"\r\n--b\r\n"
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable"
        b"\r\n\r\n" + quopri.encodestring(html.encode()) + b"\r\n--b--\r\n"
    )


def _attached(chance: random.Random, size: int) -> bytes:
    data = base64.encodebytes(chance.randbytes(size // 2)).replace(b"\n", b"\r\n")
    return (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\n" + _text(chance, size // 4).encode() + b"\r\n--b"
        b'\r\nContent-Type: application/pdf; name="x.pdf"\r\nContent-Transfer-Encoding: base64'
        b"\r\n\r\n" + data + b"--b--\r\n"
    )


KINDS: tuple[Callable[[random.Random, int], bytes], ...] = (_plain, _alternative, _attached)


def _mail(chance: random.Random, size: int, kind: int) -> Message:
    head = (
        f"Received: from mail.example.org\r\nFrom: Alice <alice@example.org>\r\n"
        f"To: bob@example.com\r\nSubject: {_word(chance, 3)} {_word(chance, 2)}\r\n"
        f"Message-ID: <{chance.getrandbits(64):x}@example.org>\r\nMIME-Version: 1.0\r\n"
    )
    return from_bytes(head.encode() + KINDS[kind % len(KINDS)](chance, size))


@pytest.fixture(scope="module")
def policy() -> CompiledPolicy:
    """Give a policy of 10,000 words, and show what it took to compile it whole and in part."""
    packed = _sections(random.Random(1))
    manifest, bodies = _manifest(packed)
    began_s = time.perf_counter()
    whole = compile_policy(manifest, bodies.get)
    whole_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    compile_policy(manifest.model_copy(update={"revision": 2}), bodies.get, whole)
    again_ms = (time.perf_counter() - began_s) * 1000
    show(f"compile {WORDS} words and {LISTED} list entries", f"{whole_s:.2f} s")
    show("the same with another setting", f"{again_ms:.2f} ms")
    assert len(whole.words) == WORDS
    return whole


@pytest.mark.bench
@pytest.mark.parametrize("size", [5_000, 50_000])
def test_a_mail_is_judged_within_two_milliseconds(policy: CompiledPolicy, size: int) -> None:
    """Mails that it never saw, of three kinds; the CPU's time, and the clock's beside it."""
    chance = random.Random(size)
    given = Given(now_s=1.8e9)
    cpu_ms: list[float] = []
    clock_ms: list[float] = []
    fired = 0
    for number in range(MAILS + WARM_UP):
        message = _mail(chance, size, number)
        began_s, cpu_s = time.perf_counter(), time.thread_time()
        decision = judge(Stage.DATA, SESSION, ENVELOPE, message, policy=policy, given=given)
        if number >= WARM_UP:
            cpu_ms.append((time.thread_time() - cpu_s) * 1000)
            clock_ms.append((time.perf_counter() - began_s) * 1000)
            fired += len(decision.fired)
    name = f"judge a mail of {size // 1000} kB, {WORDS} words"
    show(f"{name}, CPU", spread_ms(cpu_ms))
    show(f"{name}, clock", f"{spread_ms(clock_ms)}; {fired} rules fired")
    assert quantile(cpu_ms, 0.99) <= LIMIT_MS
