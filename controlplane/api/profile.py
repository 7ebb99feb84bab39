"""One's own profile: who one is, and how the pages look."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated, Literal
from zoneinfo import available_timezones

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, Field
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


@cache
def time_zones() -> frozenset[str]:
    """Return the names of all time zones that this host knows (tzdata)."""
    return frozenset(available_timezones())


def _known_zone(name: str) -> str:
    if name != "auto" and name not in time_zones():
        raise ValueError("there is no such time zone")
    return name


TimeZone = Annotated[str, Field(max_length=64), AfterValidator(_known_zone)]


class Preferences(Body):
    """How the pages look; what is left out stays."""

    language: Language | None = Field(default=None, description="`auto`: as the browser asks.")
    theme: Theme | None = Field(default=None, description="`auto`: as the system is set.")
    time_zone: TimeZone | None = Field(
        default=None,
        description="A name of the tz database; `auto`: the browser's.",
        examples=["Europe/Berlin"],
    )


class ProfileView(BaseModel):
    """A user about themselves."""

    name: str
    role: UserRole
    language: Language
    theme: Theme
    time_zone: str
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
    set_preferences(session, caller.actor, change.language, change.theme, change.time_zone)
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
