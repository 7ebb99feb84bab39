"""Slows down guessing of passwords: by one address, by many, of one user, of many.

Theory of operation. Every attempt counts as failed before the password is looked at, so parallel
guesses cannot outrun a counter; a success takes its own failures back. There are three counters:
user and address together, the address over all users, the user over all addresses. Beyond its free
failures each makes the next attempt wait, twice as long with every further one, up to its limit.

Whoever can make a counter rise can make somebody wait, so the two wide counters must not decide
over people who are known: an address that this user has logged in from lately, and the host itself,
are bound by the narrow counter alone. No number of strangers elsewhere can make those wait.

An IPv6 customer has 2^64 addresses or more: an address counts as its /64 here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from sqlmodel import Session

from controlplane.errors import Throttled
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.user_tables import KnownAddressRow, LoginFailureRow

FAILURES_KEPT: Final = timedelta(days=1)
ADDRESS_KNOWN: Final = timedelta(days=90)
CUSTOMER_PREFIX_LEN: Final = 64
ANYBODY: Final = ""
"""In place of the user name or address in the key of a wide counter; no user and none of our
addresses is called so."""


@dataclass(frozen=True)
class Limit:
    """How many failures cost nothing, and the longest wait after that."""

    free_failures: int
    longest_wait_s: int


PAIR: Final = Limit(free_failures=5, longest_wait_s=900)
ADDRESS: Final = Limit(free_failures=20, longest_wait_s=900)
USER: Final = Limit(free_failures=50, longest_wait_s=60)
"""A minute, because it makes an innocent user wait who comes from a new address."""


def count_attempt(database: Database, actor: Actor) -> None:
    """Count this attempt as failed until it succeeds; raises Throttled while waiting.

    Who has to wait is told so without the one writer: hammering holds up no heartbeat.
    """
    with database.read() as session:
        _refuse_waiting(session, actor)
    with database.write() as session:
        _refuse_waiting(session, actor)
        now = utc_now()
        for key in _counters(session, actor):
            row = session.get(LoginFailureRow, key) or _new_row(key)
            row.failures = _failures(row, now) + 1
            row.last_at = now
            session.add(row)


def wait_s(session: Session, actor: Actor) -> int:
    """Return for how many seconds no attempt of this user from this address is looked at."""
    now = utc_now()
    waits = [
        _wait_left_s(row, limit, now)
        for key, limit in _counters(session, actor).items()
        if (row := session.get(LoginFailureRow, key)) is not None
    ]
    return max(waits, default=0)


def note_success(session: Session, actor: Actor) -> None:
    """Take the failures of this user from this address back, and remember the address."""
    address = _source(actor)
    counters = _counters(session, actor)
    own = session.get(LoginFailureRow, (actor.name, address))
    failures = own.failures if own is not None else 0
    for key in counters:
        row = session.get(LoginFailureRow, key)
        if row is None:
            continue
        row.failures -= failures
        if row.failures > 0:
            session.add(row)
        else:
            session.delete(row)
    known = session.get(KnownAddressRow, (actor.name, address))
    known = known or KnownAddressRow(user_name=actor.name, address=address)
    known.last_at = utc_now()
    session.add(known)


def take_back_attempt(session: Session, actor: Actor) -> None:
    """Take back this one attempt: its password was right, and the second factor was not asked for.

    Failures before it stay. Else whoever has a password could prove it between two guesses at the
    second factor, and would never have to wait.
    """
    for key in _counters(session, actor):
        row = session.get(LoginFailureRow, key)
        if row is not None and row.failures > 0:
            row.failures -= 1
            session.add(row)


def _refuse_waiting(session: Session, actor: Actor) -> None:
    left_s = wait_s(session, actor)
    if left_s > 0:
        raise Throttled(f"Too many failed logins; try again in {left_s} seconds.")


def _counters(session: Session, actor: Actor) -> dict[tuple[str, str], Limit]:
    """Return the keys of the counters that bind this attempt, with their limits."""
    address = _source(actor)
    narrow = {(actor.name, address): PAIR}
    if _is_known(session, actor.name, address):
        return narrow
    return narrow | {(ANYBODY, address): ADDRESS, (actor.name, ANYBODY): USER}


def _is_known(session: Session, user_name: str, address: str) -> bool:
    try:
        if ip_address(address).is_loopback:
            return True
    except ValueError:
        pass
    row = session.get(KnownAddressRow, (user_name, address))
    return row is not None and row.last_at > utc_now() - ADDRESS_KNOWN


def _source(actor: Actor) -> str:
    """Return what counts as one address: an IPv4 address, a /64 of IPv6."""
    try:
        address = ip_address(actor.address)
    except ValueError:
        return actor.address
    if not isinstance(address, IPv6Address) or address.is_loopback:
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), CUSTOMER_PREFIX_LEN), strict=False))


def _new_row(key: tuple[str, str]) -> LoginFailureRow:
    return LoginFailureRow(user_name=key[0], address=key[1])


def _failures(row: LoginFailureRow, now: datetime) -> int:
    return row.failures if row.last_at > now - FAILURES_KEPT else 0


def _wait_left_s(row: LoginFailureRow, limit: Limit, now: datetime) -> int:
    if row.failures < limit.free_failures:
        return 0
    exponent = min(row.failures - limit.free_failures + 1, limit.longest_wait_s.bit_length())
    ends_at = row.last_at + timedelta(seconds=min(2**exponent, limit.longest_wait_s))
    return max(0, int((ends_at - now).total_seconds()) + 1) if now < ends_at else 0
