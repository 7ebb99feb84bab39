"""What can go wrong on the operator's side, each with its sentence and its exit code.

0: done. 1: the control plane refused. 2: wrong usage. 3: not logged in. 4: the control plane did
not answer, or could not prove who it is. 5: what was waited for did not happen.
"""

from __future__ import annotations

from controlplane.errors import SentenceError


class CtlError(SentenceError):
    """The command could not be carried out."""

    exit_code = 1


class Refused(CtlError):
    """The control plane refused."""


class Misused(CtlError):
    """The command line makes no sense."""

    exit_code = 2


class NotLoggedIn(CtlError):
    """Log in first: relayctl login."""

    exit_code = 3


class Unreachable(CtlError):
    """The control plane does not answer."""

    exit_code = 4


class WaitedInVain(CtlError):
    """What was waited for did not happen in time."""

    exit_code = 5
