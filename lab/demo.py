"""`make demo`: the lab with a few mails sent through it, and what to look at next."""

from __future__ import annotations

import sys
import time
from typing import Final

from lab import cluster, hosts, lifecycle, network, preflight
from lab.errors import LabError
from lab.layout import CONTROL_PLANE_URL, HOSTS, NODES, VIP
from lab.lock import exclusive
from lab.progress import step
from lab.settings import Settings, load

_MAILS: Final = (
    ("someone@allowed-domain.tld", "friend@elsewhere.example"),
    ("visitor@elsewhere.example", "info@example.com"),
    ("root@node-a", "postmaster@example.com"),
)
_DELIVERY_LIMIT_S: Final = 30.0
_POLL_S: Final = 0.2


def _is_running() -> bool:
    try:
        load()
        with step("looking at the lab that is there"):
            return not cluster.what_is_not_ready()
    except LabError:
        return False


def _journal_lines() -> int:
    journal = HOSTS["sink"].logs / "sink.jsonl"
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


def send_mails() -> int:
    """Send one mail of each kind from the client host; gives how many reached the sink."""
    before = _journal_lines()
    for sender, recipient in _MAILS:
        command = ["swaks", "--silent", "2", "--server", VIP, "--from", sender, "--to", recipient]
        hosts.run_inside(HOSTS["client"], command)
    deadline = time.monotonic() + _DELIVERY_LIMIT_S
    while _journal_lines() - before < len(_MAILS) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return _journal_lines() - before


def _summary(settings: Settings, delivered: int) -> str:
    holders = network.vip_holders()
    active, standby = sorted(NODES, key=lambda name: name not in holders)
    swaks = f"swaks --server {VIP} --from me@allowed-domain.tld --to you@example.com"
    return f"""
The relay pair is up; {delivered} of {len(_MAILS)} mails went through it.

  control plane   {CONTROL_PLANE_URL}  (host cp, a certificate of its own making)
  log in as       {settings.admin_user} / {settings.admin_password}
  VIP             {VIP}, port 25, now on {active}
  node-a          {HOSTS["node-a"].address}   Postfix, keepalived, relay-agent, relay-guard
  node-b          {HOSTS["node-b"].address}   the same; {standby} holds a copy of {active}'s queue
  sink            {HOSTS["sink"].address}   where the mail goes; journal in its /var/log/relay-lab
  client          {HOSTS["client"].address}   a trusted network to send from

What to try next

  send a mail     .venv/bin/relay-lab exec client -- {swaks}
  be refused      the same with --from me@blocked-domain.tld
  see the state   .venv/bin/relay-lab status
  as an operator  .venv/bin/relayctl login --url {CONTROL_PLANE_URL}
                  .venv/bin/relayctl status
  power loss      .venv/bin/relay-lab kill {active}     then send again: {standby} answers
  bring it back   .venv/bin/relay-lab boot {active}
  a log           .venv/bin/relay-lab exec {standby} -- tail -f /var/log/relay-lab/agent.log
  all of it       docs/tutorial.md, a quarter of an hour
  the end         make demo-down
"""


def run() -> None:
    """Bring the lab up unless a healthy one is there, send, and say what there is."""
    preflight.require_root()
    with exclusive():
        if not _is_running():
            lifecycle.up(Settings())
        with step(f"sending {len(_MAILS)} mails through {VIP}"):
            delivered = send_mails()
    sys.stdout.write(_summary(load(), delivered))


if __name__ == "__main__":
    try:
        run()
    except LabError as error:
        sys.stderr.write(f"demo: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
