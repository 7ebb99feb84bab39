"""What a role or a scope permits, by enumeration."""

from __future__ import annotations

from itertools import product

import pytest

from controlplane.core.permissions import MEANINGS, NEEDS, Permission, Scope, UserRole, refusal

READ_ONLY, OPERATOR, ADMIN = UserRole.READ_ONLY, UserRole.OPERATOR, UserRole.ADMIN

BY_LOGIN = {
    READ_ONLY: {"password", "own", "read"},
    OPERATOR: {"password", "own", "read", "operate"},
    ADMIN: {"password", "own", "read", "operate", "admin", "users"},
}
BY_ADMINS_TOKEN = {
    Scope.READ: {"read"},
    Scope.OPERATE: {"read", "operate"},
    Scope.ADMIN: {"read", "operate", "admin"},
}


@pytest.mark.parametrize("role", UserRole)
def test_each_role_may_what_the_ones_below_it_may(role: UserRole) -> None:
    """Exactly that and its own."""
    assert {one for one in NEEDS if refusal(one, role, None) is None} == BY_LOGIN[role]


@pytest.mark.parametrize("scope", Scope)
def test_a_token_may_what_its_scope_says_and_nothing_about_people(scope: Scope) -> None:
    """Not even an Admin's token of scope `admin` touches users, passwords or tokens."""
    assert {one for one in NEEDS if refusal(one, ADMIN, scope) is None} == BY_ADMINS_TOKEN[scope]


def test_a_token_never_may_more_than_its_owner() -> None:
    """Every permission, role and scope."""
    for permission, role, scope in product(NEEDS, UserRole, Scope):
        if refusal(permission, role, scope) is None:
            assert refusal(permission, role, None) is None


def test_a_refusal_names_what_is_missing() -> None:
    """So that the reader knows whom to ask for what."""
    assert "needs Operator" in str(refusal(Permission.OPERATE, READ_ONLY, None))
    assert "needs operate" in str(refusal(Permission.OPERATE, ADMIN, Scope.READ))
    assert "log in" in str(refusal(Permission.OWN, ADMIN, Scope.ADMIN))


def test_every_permission_is_explained() -> None:
    """The reference prints the meaning of each."""
    assert set(MEANINGS) == set(Permission)
    assert set(NEEDS) == set(Permission) - {Permission.NONE, Permission.AGENT}
