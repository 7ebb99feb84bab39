"""Runs a program to its end and turns its failure into one sentence."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from lab.errors import LabError


def run(argv: Sequence[str], *, text: str | None = None, timeout_s: float = 60) -> str:
    """Run `argv` with `text` on its standard input and give its standard output."""
    try:
        done = subprocess.run(
            argv,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]} is missing on this machine: run `make install`.") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout_s:g} s.") from error
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        said = lines[-1] if lines else f"exit status {done.returncode}"
        raise LabError(f"`{' '.join(argv)}` failed: {said}")
    return done.stdout


def succeeds(argv: Sequence[str]) -> bool:
    """Run `argv` and tell whether it ended well; what it said is dropped."""
    return (
        subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
        == 0
    )
