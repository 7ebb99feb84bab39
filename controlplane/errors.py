"""The control plane's errors: one base class; each leaf knows its HTTP status and its sentence.

`SentenceError` is what they share with the command line's: `detail` is one sentence for a person,
the docstring by default, and `fields` has one for each field at fault.
"""

from __future__ import annotations

from collections.abc import Mapping


class SentenceError(Exception):
    """Something could not be done."""

    reason: str | None = None
    """A word for programs that must tell refusals of one status apart."""

    def __init__(
        self,
        detail: str | None = None,
        fields: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        self.detail = detail or (self.__doc__ or "").strip()
        self.fields = dict(fields or {})
        self.reason = reason or self.reason
        super().__init__(self.detail)


class ControlPlaneError(SentenceError):
    """The control plane could not do what it was asked to."""

    status = 500


class Invalid(ControlPlaneError):
    """The request holds values that cannot be used; nothing was changed."""

    status = 422


class NotFound(ControlPlaneError):
    """There is no such thing."""

    status = 404


class Conflict(ControlPlaneError):
    """The request does not fit the present state; nothing was changed."""

    status = 409


class Unauthenticated(ControlPlaneError):
    """Who is asking could not be proved."""

    status = 401


class PasswordChangeRequired(ControlPlaneError):
    """Set a new password first: PUT /api/v1/session/password."""

    status = 403
    reason = "password-change-required"


class Forbidden(ControlPlaneError):
    """This is not permitted to whoever asked."""

    status = 403


class Throttled(ControlPlaneError):
    """Too many attempts; try again later."""

    status = 429


class Unavailable(ControlPlaneError):
    """The database does not answer; try again."""

    status = 503


class Recovering(Unavailable):
    """The control plane was restored from a backup and waits for the reports of all nodes."""


class SetupFailed(ControlPlaneError):
    """A file or setting of this installation is missing or broken."""
