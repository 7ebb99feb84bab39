"""`relay-receive PEER`: what a peer's SSH key may run on this host, and nothing else.

sshd(8) starts it as the forced command of that key and passes what the client asked for in
SSH_ORIGINAL_COMMAND. Two things are let in: the control session (`receive_session`), and the server
side of the one rsync(1) transfer of a live session, which runs as Postfix's user in a fresh
directory below the mirror's staging place.

Each push starts this program once more for its rsync, so what only the session or a refusal needs
is imported there.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from nodeagent.adapters.owner import Owner
from nodeagent.adapters.staging import make_place
from nodeagent.core.names import is_node_name
from nodeagent.core.rsync_command import SESSION_COMMAND, parse_server_command, server_words
from nodeagent.errors import AgentError, Refused

_SAFE_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def run_rsync(mirror: Path, owner: Owner, command: str) -> None:
    """Become the server side of the session's transfer; returns never."""
    place, short_options = parse_server_command(command)
    os.chdir(make_place(mirror, place, owner))
    os.umask(0o077)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(owner.gid)
        os.setuid(owner.uid)
    words = server_words(short_options)
    os.execvpe(words[0], words, _SAFE_ENVIRONMENT)  # noqa: S606 - no shell is what is wanted


def serve(options: argparse.Namespace, owner: Owner) -> None:
    """Serve one control session on standard input and output."""
    from nodeagent.adapters.line_channel import LineChannel  # noqa: PLC0415 - rsync starts fast
    from nodeagent.receive_session import Places, Session  # noqa: PLC0415 - the same

    places = Places(options.relay, options.state, owner)
    Session(options.peer, places).run(LineChannel(0, 1))


def run(options: argparse.Namespace, owner: Owner, command: str) -> None:
    """Do what the peer asked for; raises `Refused` for all but a session and its transfer."""
    if not is_node_name(options.peer):
        raise Refused(f"{options.peer!r} is not the name of a node.")
    if command == SESSION_COMMAND:
        serve(options, owner)
    else:
        run_rsync(options.relay / "mirror" / options.peer, owner, command)


def main(arguments: list[str] | None = None) -> None:
    """Serve what the peer asked for; a refusal is one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="relay-receive", description="Forced SSH command.")
    parser.add_argument("--relay", type=Path, default=Path("/var/spool/relay"))
    parser.add_argument("--state", type=Path, default=Path("/var/lib/relay"))
    parser.add_argument("--owner", default="postfix")
    parser.add_argument("peer")
    options = parser.parse_args(arguments)
    try:
        run(options, Owner.named(options.owner), os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    except AgentError as error:
        refuse(options.state / "events", options.peer, error)


def refuse(events: Path, peer: str, error: AgentError) -> None:
    """Note the refusal as an event, say it in one sentence, and end."""
    from nodeagent.adapters.event_spool import EventSpool  # noqa: PLC0415 - rsync starts fast

    EventSpool(events).append("push-refused", f"{peer}: {error}", peer=peer, reason="command")
    sys.stderr.write(f"relay-receive: {error}\n")
    sys.exit(1)


if __name__ == "__main__":
    main()
