"""The agent's errors: one base class, few leaves, each with the sentence that a user gets."""


class AgentError(Exception):
    """The agent could not do what it was asked to."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class Unreachable(AgentError):
    """The other side did not answer in time."""


class Refused(AgentError):
    """The other side understood the request and refused it."""


class BrokenState(AgentError):
    """A file of the agent's own state cannot be read; unknown is never permission."""


class ToolFailed(AgentError):
    """A program that the agent runs ended with an error."""


class BadSettings(AgentError):
    """The settings of this host are wrong."""
