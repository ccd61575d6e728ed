"""Rows of results that no report can be made of, since their file was changed or is damaged: one sentence."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..errors import UserError, first_line
from .campaign import AGAIN


class Kept(Protocol):
    """Results, and whether any of them are from a file or a folder."""

    file: Path
    read: bool


@contextlib.contextmanager
def telling(results: Kept) -> Iterator[None]:
    """A context for what reads rows.

    Args:
        results: The rows. Where none of them is from a file, an error is left as it is: it is the program's fault.

    Raises:
        UserError: In place of an error that a value of another kind, or one that is missing, makes.
    """
    try:
        yield
    except UserError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if not results.read:
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(f"{results.file} has results that no report can be made of ({reason}); {AGAIN}") from error
