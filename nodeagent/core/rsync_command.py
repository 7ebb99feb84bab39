"""The one rsync(1) transfer that a push makes: the sender's options, the receiver's check (pure).

sshd(8) hands the receiver whatever the client asked to run. Only the server side of exactly our own
transfer passes, and of it only the staging place is taken: the receiver runs rsync with options of
its own making, in a directory of its own choice.
"""

from __future__ import annotations

import re
import shlex
from typing import Final, NamedTuple

from nodeagent.errors import Refused

SESSION_COMMAND: Final = "relay-receive session"
SENDER_OPTIONS: Final = (
    "--recursive",
    "--times",
    "--perms",
    "--whole-file",
    "--no-inc-recursive",
    "--timeout=60",
)
_SHORT_OPTIONS: Final = re.compile(r"-[Wtpr]{4}e\d*\.\d*[A-Za-z]*")
_STAGING: Final = re.compile(r"(?P<token>[0-9a-f]{32})/(?P<attempt>[1-9][0-9]{0,9})/?")
_WORDS: Final = 6


class StagingPlace(NamedTuple):
    """The directory of one transfer: the live session's token and the number of the attempt."""

    token: str
    attempt: int

    def __str__(self) -> str:
        return f"{self.token}/{self.attempt}"


def parse_server_command(command: str) -> tuple[StagingPlace, str]:
    """Return the staging place and the short options, or raise `Refused`."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Refused("The command is not one that a push runs.") from error
    if len(words) != _WORDS or words[:2] != ["rsync", "--server"]:
        raise Refused("The command is not one that a push runs.")
    short, timeout, dot, path = words[2:]
    place = _STAGING.fullmatch(path)
    if not _SHORT_OPTIONS.fullmatch(short) or timeout != SENDER_OPTIONS[-1] or dot != ".":
        raise Refused("The rsync options are not those that a push uses.")
    if place is None:
        raise Refused("The path is not a staging place.")
    return StagingPlace(place["token"], int(place["attempt"])), short


def server_words(short_options: str) -> list[str]:
    """Return the command to run instead, in the staging directory itself."""
    return ["rsync", "--server", short_options, SENDER_OPTIONS[-1], ".", "."]
