"""Errors that a user can mend. Every message is one sentence of what is wrong, then one of what to do.

The command line prints the message alone (no traceback) and exits with `exit_code`.
Anything that is not an `UncloudedError` is a defect of this package.
"""


class UncloudedError(Exception):
    """Base of all errors raised on purpose: the work cannot be done with what was given (exit code 1)."""

    exit_code = 1


class UsageError(UncloudedError):
    """The request itself is wrong: an unknown name, a bad option or value (exit code 2)."""

    exit_code = 2
