"""The error of a model that cannot be loaded or used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import UserError

AGAIN = "copy or download the model again"
"""What helps where a file is damaged."""


class ModelError(UserError):
    """A model that cannot be loaded or used. A caller with a config key puts it in front, see `config_key`.

    Args:
        message: The sentence, which begins with the folder or file, or continues after `argument`.
        argument: The wrong argument of the Python call, if it is one.
    """

    def __init__(self, message: str, argument: str | None = None) -> None:
        super().__init__(f"{argument} {message}" if argument else message)
        self.message, self.argument = message, argument


@contextmanager
def config_key(path: str) -> Iterator[None]:
    """Puts a config key, or a command's option, in front of a ModelError's message.

    Args:
        path: Of the key that names the model. For another argument of the call, its key in the same block is put.

    Raises:
        UserError: In place of the ModelError.
    """
    try:
        yield
    except ModelError as error:
        block, _, key = path.rpartition(".")
        if error.argument is None:
            raise UserError(f"`{path}`: {error.message}") from error
        key = key if error.argument == "name_or_path" else error.argument
        raise UserError(f"`{block}.{key}` {error.message}" if block else f"`{key}` {error.message}") from error


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, on one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0][:200].rstrip(".")
