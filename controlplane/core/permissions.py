"""Who may do what: roles of users, scopes of API tokens, and the permission that each call needs.

Theory of operation. A call of the API declares exactly one `Permission`. `NEEDS` says which role a
user must have for it, and which scope a token that acts for the user. Both are looked at when the
token is used, so a token can never do more than its owner can at that moment. What makes a token
outlive its own revocation (passwords, second factors, further tokens, users) needs a login: no
token of any scope will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class UserRole(StrEnum):
    """What a user may do; each role includes the ones below it."""

    READ_ONLY = "ReadOnly"
    OPERATOR = "Operator"
    ADMIN = "Admin"


class Scope(StrEnum):
    """What an API token may do for its owner; each scope includes the ones before it."""

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a call needs."""

    NONE = "none"
    AGENT = "agent"
    PASSWORD = "password"  # noqa: S105 - a name, no secret
    OWN = "own"
    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"
    USERS = "users"


@dataclass(frozen=True)
class Need:
    """The lowest role and the lowest scope that will do; no scope: no token will do."""

    role: UserRole
    scope: Scope | None


NEEDS: Final[Mapping[Permission, Need]] = {
    Permission.PASSWORD: Need(UserRole.READ_ONLY, None),
    Permission.OWN: Need(UserRole.READ_ONLY, None),
    Permission.READ: Need(UserRole.READ_ONLY, Scope.READ),
    Permission.OPERATE: Need(UserRole.OPERATOR, Scope.OPERATE),
    Permission.ADMIN: Need(UserRole.ADMIN, Scope.ADMIN),
    Permission.USERS: Need(UserRole.ADMIN, None),
}

MEANINGS: Final[Mapping[Permission, str]] = {
    Permission.NONE: "Anybody may call it.",
    Permission.AGENT: "A node agent, by the node's own key.",
    Permission.PASSWORD: "Any user who logged in, also one who must set a new password first.",
    Permission.OWN: "Any user who logged in, about themselves; no API token.",
    Permission.READ: "Any user; an API token of any scope.",
    Permission.OPERATE: "Operator or Admin; an API token of scope `operate` or `admin`.",
    Permission.ADMIN: "Admin; an API token of scope `admin`.",
    Permission.USERS: "Admin who logged in; no API token.",
}

_ROLES: Final = tuple(UserRole)
_SCOPES: Final = tuple(Scope)


def refusal(permission: Permission, role: UserRole, scope: Scope | None) -> str | None:
    """Return one sentence why this user may not, None when they may.

    `scope` is that of the API token in use, None for a login.
    """
    need = NEEDS[permission]
    if scope is not None and need.scope is None:
        return "An API token cannot do this; log in."
    if _ROLES.index(role) < _ROLES.index(need.role):
        return f"The role {role.value} may not do this; it needs {need.role.value}."
    if scope is None or need.scope is None or _SCOPES.index(scope) >= _SCOPES.index(need.scope):
        return None
    return f"An API token of scope {scope.value} may not do this; it needs {need.scope.value}."
