"""The errors that a user of the lab sees, each as one sentence."""


class LabError(Exception):
    """The lab could not do what was asked."""


class NotUp(LabError):
    """The lab is not up: start it with `relay-lab up`."""

    def __str__(self) -> str:
        """Give the docstring unless a sentence of its own was passed."""
        return super().__str__() or (self.__doc__ or "")
