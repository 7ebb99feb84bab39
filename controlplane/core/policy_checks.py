"""What cannot be used in the settings of the mail policy, one sentence a field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.values import list_value
from nodeagent.policy.model import Stage

_EXTENSION: Final = re.compile(r"[a-z0-9_-]{1,20}")
_URL: Final = re.compile(r"https://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[!-~]*)?")
_NAME: Final = re.compile(r"[!-9;-~]{1,100}")  # RFC 7617: no colon
MOST_EXTENSIONS: Final = 200
MOST_EXEMPT: Final = 1000
NO_EXTENSION: Final = "cannot be used: an extension has small letters and digits and no dot"
NO_ADDRESS: Final = (
    "The address has to be an IP address that every node has, such as 127.0.0.1, 0.0.0.0 or ::."
)
NEEDS_DATA: Final = (
    "Mail to categories goes to the subscribers at DATA; while there are categories, do not leave"
    " it out."
)
NO_DATA: Final = (
    "Mail to categories goes to the subscribers at DATA, a stage that the settings leave out; add"
    " it there first."
)


def settings_problems(settings: PolicySettings) -> dict[str, str]:
    """Return what is wrong, by the dotted name of the field."""
    found: dict[str, str] = {}
    for field, sentence in (*_lists(settings), *_places(settings), *_scores(settings)):
        found.setdefault(field, sentence)
    return found


def without_data(settings: PolicySettings) -> dict[str, str]:
    """Return the fields of the doors that leave out DATA, and why no category may be there."""
    doors = {"stages": settings.stages}
    if settings.http.is_enabled:
        doors["http.stages"] = settings.http.stages
    return {field: NEEDS_DATA for field, stages in doors.items() if Stage.DATA not in stages}


def _lists(settings: PolicySettings) -> Iterator[tuple[str, str]]:
    if len(settings.blocked_extensions) > MOST_EXTENSIONS:
        yield "blocked_extensions", f"More than {MOST_EXTENSIONS} extensions cannot be blocked."
    for one in settings.blocked_extensions:
        if not _EXTENSION.fullmatch(one):
            yield "blocked_extensions", f'"{one}" {NO_EXTENSION}.'
    if len(settings.rate_exempt) > MOST_EXEMPT:
        yield "rate_exempt", f"More than {MOST_EXEMPT} cannot be exempt."
    for one in settings.rate_exempt:
        try:
            if list_value(one) != one:
                yield "rate_exempt", f'"{one}" has to be written as "{list_value(one)}".'
        except ValueError as error:
            yield "rate_exempt", f"{error}."


def _places(settings: PolicySettings) -> Iterator[tuple[str, str]]:
    door = settings.http
    try:
        ip_address(door.address)
    except ValueError:
        yield "http.address", NO_ADDRESS
    if door.username is not None and not _NAME.fullmatch(door.username):
        yield "http.username", "The user name has printable ASCII characters and no colon."
    has_secret = door.password_sha256 or door.token_sha256 or door.header_sha256
    if door.is_enabled and not has_secret:
        yield "http.is_enabled", "The HTTP door needs credentials first."
    url = settings.unsubscribe_url
    if url is not None and not _URL.fullmatch(url):
        yield "unsubscribe_url", "The URL has to read https://HOST or https://HOST/PATH."


def _scores(settings: PolicySettings) -> Iterator[tuple[str, str]]:
    if settings.threat_quarantine_score > settings.threat_reject_score:
        yield "threat_quarantine_score", "It cannot be above the score from which mail is refused."
