"""One's own second factor: set up, confirm, renew the recovery codes, remove."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, status
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import NOT_FOUND, Body
from controlplane.api.permissions import OwnCaller
from controlplane.api.user_auth import LoginRulesDep
from controlplane.store import second_factor
from controlplane.store.engine import DatabaseDep
from controlplane.store.users import prove
from nodeagent.core.contract import Refusal

router = APIRouter(prefix="/api/v1/profile/second-factor", tags=["profile"])

THROTTLED: Final[dict[int | str, dict[str, Any]]] = {
    429: {"model": Refusal, "description": "Too many wrong passwords or codes."}
}
Password = Annotated[str, Field(min_length=1, max_length=1024)]
Code = Annotated[
    str, Field(min_length=1, max_length=64, examples=["123456"], description="Of the app.")
]


class PasswordProof(Body):
    """The present password."""

    current_password: Password


class FullProof(PasswordProof):
    """The present password, and a code of the authenticator app or a recovery code."""

    code: Code


class Confirmation(Body):
    """A code of the authenticator app."""

    code: Code


class EnrolmentView(BaseModel):
    """A secret for the authenticator app; it is shown this once."""

    secret: str = Field(description="Base32, to be typed in.")
    otpauth_uri: str = Field(description="The same as a URI, to be shown as a QR code.")


class RecoveryCodes(BaseModel):
    """Each opens one login without the app; they are shown this once."""

    recovery_codes: list[str]


@router.post("", status_code=status.HTTP_201_CREATED, responses=THROTTLED)
def enrol(
    proof: PasswordProof, caller: OwnCaller, database: DatabaseDep, rules: LoginRulesDep
) -> EnrolmentView:
    """Begin to set up a second factor; logins need no code before it is confirmed."""
    prove(database, caller.actor, proof.current_password, rules)
    with database.write() as session:
        begun = second_factor.enrol(session, caller.actor, rules)
    return EnrolmentView(secret=begun.secret, otpauth_uri=begun.otpauth_uri)


@router.post("/confirm", responses=NOT_FOUND)
def confirm(
    body: Confirmation, caller: OwnCaller, database: DatabaseDep, rules: LoginRulesDep
) -> RecoveryCodes:
    """Confirm the second factor with a code; from now on every login needs one.

    All other sessions of the user end: they were opened with the password alone.
    """
    keep_id = caller.user.credential_id
    with database.write() as session:
        codes = second_factor.confirm(session, caller.actor, body.code, rules, keep_id)
    return RecoveryCodes(recovery_codes=codes)


@router.post("/recovery-codes", responses={**NOT_FOUND, **THROTTLED})
def renew_recovery_codes(
    proof: FullProof, caller: OwnCaller, database: DatabaseDep, rules: LoginRulesDep
) -> RecoveryCodes:
    """Make ten new recovery codes; the old ones stop working."""
    prove(database, caller.actor, proof.current_password, rules, code=proof.code)
    with database.write() as session:
        codes = second_factor.renew_recovery_codes(session, caller.actor)
    return RecoveryCodes(recovery_codes=codes)


@router.post(
    "/remove", status_code=status.HTTP_204_NO_CONTENT, responses={**NOT_FOUND, **THROTTLED}
)
def remove(
    proof: FullProof, caller: OwnCaller, database: DatabaseDep, rules: LoginRulesDep
) -> None:
    """Remove the own second factor; logins then need the password alone."""
    prove(database, caller.actor, proof.current_password, rules, code=proof.code)
    with database.write() as session:
        second_factor.remove(session, caller.actor, caller.user.name)
