"""The milter door as a process of its own, which a test may stop or kill at a stage it names.

`python -m tests.fakes.milter_process SOCKET [STAGE]`: it accepts everything, but a decision at that
stage never comes. Each stage that it is asked at is printed as a line, "up" when it listens.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeagent.policy.doors.milter_server import Limits, MilterDoor
from nodeagent.policy.model import ACCEPT, Decision
from tests.fakes.milter_dialogue import judging
from tests.fakes.milter_door import Question, ScriptedPolicy

ROOT = Path(__file__).resolve().parents[2]
NEVER_S = 3600.0


class MilterProcess:
    """The process, from the outside."""

    def __init__(self, socket_file: Path, stage: str) -> None:
        command = [sys.executable, "-m", "tests.fakes.milter_process", str(socket_file), stage]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        self.wait_for("up")

    def wait_for(self, stage: str) -> None:
        """Wait until it was asked at this stage."""
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()) != f"{stage}\n":
            assert line, "the process ended"


@contextmanager
def milter_process(socket_file: Path, stage: str = "none") -> Iterator[MilterProcess]:
    """Run it until the end of the block."""
    made = MilterProcess(socket_file, stage)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait(30)
        if made.process.stdout is not None:
            made.process.stdout.close()


async def serve(socket_file: Path, stage: str) -> None:
    """Listen for ever."""

    async def never() -> Decision:
        await asyncio.sleep(NEVER_S)
        return ACCEPT

    def rule(asked: Question):
        print(asked.stage.value, flush=True)  # noqa: T201
        return never() if asked.stage.value == stage else ACCEPT

    policy = ScriptedPolicy(rule, judging(decision_timeout_s=60), keeps=False)
    door = MilterDoor(policy, Limits(progress_s=0.5))
    await door.listen_unix(socket_file, 0o666)
    print("up", flush=True)  # noqa: T201
    await asyncio.sleep(NEVER_S)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
