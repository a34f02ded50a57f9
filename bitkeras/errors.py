"""The exceptions a user is meant to read."""


class UserError(Exception):
    """A mistake in the input, told in one sentence.

    The sentence says what was given, what is allowed and what to do. The command line prints it
    without a traceback and exits with status 1; any other exception is a defect of bitkeras.
    """


class Interrupted(Exception):
    """A signal asked the program to stop; the text says what is kept.

    Attributes:
      exit_status: what the program ends with.
    """

    def __init__(self, message: str, *, exit_status: int):
        super().__init__(message)
        self.exit_status = exit_status


def first_line(error: Exception) -> str:
    """What an error of TensorFlow says, without the page behind it."""
    return (str(getattr(error, "message", error)).splitlines() or [type(error).__name__])[0]


class Refused(UserError):
    """A model did not pass the gate before it is published; nothing was wrong with the command."""

    exit_status = 3
