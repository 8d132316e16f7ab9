"""Errors that a user can mend. Every message is one sentence of what is wrong, then one of what to do.

The command line prints the message alone (no traceback) and exits with `exit_code`.
Anything that is not an `UncloudedError` is a defect of this package.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


class UncloudedError(Exception):
    """Base of all errors raised on purpose: the work cannot be done with what was given (exit code 1)."""

    exit_code = 1


class UsageError(UncloudedError):
    """The request itself is wrong: an unknown name, a bad option or value (exit code 2)."""

    exit_code = 2


def out_of_memory(error: Exception) -> bool:
    """Whether numpy or torch raised `error` for lack of memory, the processor's or a GPU's."""
    words = ("out of memory", "can't allocate memory")  # CUDA and MPS; the CPU
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


class Problem(NamedTuple):
    """The first thing that pydantic found wrong with a value: the keys to it, the value, and what is wrong."""

    path: tuple[int | str, ...]
    value: Any
    what: str

    @property
    def where(self) -> str:
        return ".".join(map(str, self.path))


def first_problem(error: "ValidationError") -> Problem:
    found = error.errors()[0]
    return Problem(found["loc"], found["input"], found["msg"].removeprefix("Value error, "))
