"""Argon2id hashing and the rules that a new password must keep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import BoundedSemaphore
from typing import Final

from passlib.hash import argon2

from controlplane.errors import Throttled

HASHES_AT_ONCE: Final = 2
HASH_WAIT_S: Final = 2.0
MIN_LENGTH = 10
MAX_LENGTH = 256
MIN_DISTINCT = 5
_COMMON_WORDS = frozenset(
    {"admin", "administrator", "changeme", "letmein", "mailrelay", "password", "qwerty", "relay"}
    | {"qwertyuiop", "qwertz", "secret", "welcome", "iloveyou", "postfix", "passwort", "abcdefghij"}
)


_slots = BoundedSemaphore(HASHES_AT_ONCE)


@dataclass(frozen=True)
class PasswordCost:
    """Argon2id parameters (RFC 9106); tests use cheap ones."""

    rounds: int = 3
    memory_kib: int = 65536
    parallelism: int = 2


def hash_password(password: str, cost: PasswordCost) -> str:
    """Return the Argon2id hash in its usual text form, salt included."""
    hasher = argon2.using(
        type="ID",
        rounds=cost.rounds,
        memory_cost=cost.memory_kib,
        parallelism=cost.parallelism,
    )
    with _hashing():
        return str(hasher.hash(password))


def verify_password(password: str, password_hash: str) -> bool:
    """Tell whether `password` is the hashed one; over-long input is refused unhashed."""
    if len(password) > MAX_LENGTH:
        return False
    with _hashing():
        return bool(argon2.verify(password, password_hash))


@contextmanager
def _hashing() -> Iterator[None]:
    """Wait for one of few slots: a hash takes 64 MiB, and strangers can ask for many at once."""
    if not _slots.acquire(timeout=HASH_WAIT_S):
        raise Throttled("Too many people log in at this moment; try again.")
    try:
        yield
    finally:
        _slots.release()


@lru_cache(maxsize=4)
def decoy_hash(cost: PasswordCost) -> str:
    """Return a hash to verify against when the user is unknown, so that both take equally long."""
    return hash_password("no user has this password", cost)


def weakness(password: str, user_name: str) -> str | None:
    """Return one sentence why `password` is too weak, or None when it will do."""
    letters = "".join(char for char in password.casefold() if char.isalpha())
    if len(password) < MIN_LENGTH:
        return f"The password must have at least {MIN_LENGTH} characters."
    if len(password) > MAX_LENGTH:
        return f"The password must have at most {MAX_LENGTH} characters."
    if len(set(password)) < MIN_DISTINCT:
        return f"The password must have at least {MIN_DISTINCT} different characters."
    if not letters and password.isdigit():
        return "The password must not consist of digits only."
    if letters in _COMMON_WORDS or letters == user_name.casefold():
        return "The password is a well-known word with some digits; choose another."
    return None
