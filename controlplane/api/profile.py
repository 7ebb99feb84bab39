"""One's own profile: who one is, and how the pages look."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.cluster_access import Body
from controlplane.api.permissions import OwnCaller
from controlplane.core.permissions import UserRole
from controlplane.store import second_factor
from controlplane.store.engine import ReadSession, WriteSession
from controlplane.store.user_accounts import read_user, set_preferences

router = APIRouter(prefix="/api/v1/profile", tags=["profile"])

Language = Literal["auto", "en", "de"]
Theme = Literal["auto", "light", "dark"]


class Preferences(Body):
    """How the pages look; what is left out stays."""

    language: Language | None = Field(default=None, description="`auto`: as the browser asks.")
    theme: Theme | None = Field(default=None, description="`auto`: as the system is set.")


class ProfileView(BaseModel):
    """A user about themselves."""

    name: str
    role: UserRole
    language: Language
    theme: Theme
    has_second_factor: bool
    recovery_codes_left: int
    created_at: datetime
    password_changed_at: datetime | None


@router.get("")
def read_profile(caller: OwnCaller, session: ReadSession) -> ProfileView:
    """Show one's own profile."""
    return _view(session, caller.user.name)


@router.patch("")
def patch_profile(change: Preferences, caller: OwnCaller, session: WriteSession) -> ProfileView:
    """Change one's own preferences."""
    set_preferences(session, caller.actor, change.language, change.theme)
    session.flush()
    return _view(session, caller.user.name)


def _view(session: Session, name: str) -> ProfileView:
    user = read_user(session, name)
    return ProfileView.model_validate(
        {
            **user.row.model_dump(),
            "has_second_factor": user.has_second_factor,
            "recovery_codes_left": second_factor.codes_left(session, name),
        }
    )
