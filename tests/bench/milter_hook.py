"""The hook's door as a process for benchmarks: `python -m tests.bench.milter_hook SOCKET KIND LOG`.

KIND "accept-all" decides nothing; "whole" is the desk with 1,000,000 networks, 10,000 words, rates
and threat rules, as on a relay, except that the policy comes from no control plane; "words" has the
networks and words alone.
"""

from __future__ import annotations

import asyncio
import string
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Final

import uvloop

from nodeagent.policy.desk import Desk
from nodeagent.policy.document import (
    ENTRIES_A_SECTION,
    Badword,
    ListEntry,
    Manifest,
    PolicySettings,
    RateRule,
    RateSubject,
    RateWindow,
    SectionKind,
)
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.doors.milter_server import MilterDoor
from nodeagent.policy.engine.policy import compile_policy
from nodeagent.policy.engine.sections import Entry, PackedSection, pack_section
from nodeagent.policy.log_writer import LogWriter, open_spool
from nodeagent.policy.ports import Decides
from tests.fakes.milter_dialogue import judging
from tests.fakes.milter_door import ScriptedPolicy

NETWORKS: Final = 1_000_000
WORDS: Final = 10_000
SPOOL_BYTES: Final = 256 * 1024 * 1024
A_MILLION: Final = 1_000_000


def network(number: int) -> str:
    """Return one of the blocked addresses; none is on the loopback."""
    return f"{20 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.{number % 250}"


def words(count: int = WORDS) -> list[str]:
    """Return words that no mail has."""
    made = Random(1)  # the same words each time
    return [
        f"{''.join(made.choices(string.ascii_lowercase, k=made.randint(6, 12)))}zq"
        for _ in range(count)
    ]


def _sections(*, has_rates: bool) -> Iterable[PackedSection]:
    for number in range(NETWORKS // ENTRIES_A_SECTION + 1):
        first = number * ENTRIES_A_SECTION
        ids = range(max(1, first), min(NETWORKS + 1, first + ENTRIES_A_SECTION))
        yield pack_section(
            SectionKind.LIST, number, [ListEntry(id=one, value=network(one)) for one in ids]
        )
    bad: list[Entry] = [Badword(id=n, pattern=word) for n, word in enumerate(words(), 1)]
    yield pack_section(SectionKind.BADWORDS, 0, bad)
    if not has_rates:
        return
    subjects = (RateSubject.CLIENT, RateSubject.SENDER, RateSubject.RECIPIENT_DOMAIN)
    rates: list[Entry] = [
        RateRule(id=number, subject=subject, window=RateWindow.HOUR, limit=A_MILLION)
        for number, subject in enumerate(subjects, 1)
    ]
    yield pack_section(SectionKind.RATES, 0, rates)


def desk_of(log_file: Path, *, is_whole: bool) -> Desk:
    """Return a desk with everything on, or one that has lists and words alone."""
    packed = list(_sections(has_rates=is_whole))
    bodies = {one.section.sha256: one.body for one in packed}
    manifest = Manifest(
        revision=1,
        settings=PolicySettings(is_active=True, has_threats=is_whole),
        sections=tuple(one.section for one in packed),
    )
    writer = LogWriter(open_spool(log_file, SPOOL_BYTES))
    writer.start()
    desk = Desk(writer, Authenticator())
    desk.use(compile_policy(manifest, bodies.get))
    return desk


def _policy(kind: str, log_file: Path) -> Decides:
    if kind == "accept-all":
        return ScriptedPolicy(settings=judging(), keeps=False)
    return desk_of(log_file, is_whole=kind == "whole")


async def _serve(socket_file: Path, policy: Decides) -> None:
    door = MilterDoor(policy)
    await door.listen_unix(socket_file, 0o666)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(Path(sys.argv[1]), _policy(sys.argv[2], Path(sys.argv[3]))))
