"""Deprecated names in our own calls are errors; those in a library's inside are its own affair.

A warning is ours where the first file outside of the library that gives it is one of this repository. Filters of the
warnings module cannot say that: they see the one line that a library's stacklevel points at, which is often its own.
Loggers count too, since transformers gives its deprecations there. A program that hides warnings hides none from this.
"""

from __future__ import annotations

import functools
import logging
import re
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OURS = tuple(
    f"{ROOT / name}" for name in ("custom", "tests", "tools", "examples", "benchmarks", "experiments", "launch.py")
)
CATEGORIES = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
# some libraries give a UserWarning, or a logger's line, and say only in words that a name will go
WORDS = re.compile(
    r"deprecat|will be (removed|an error)|no longer be supported|in (a|an upcoming|a future) (release|version)", re.I
)
# classes of diffusers 0.42 inherit or make what diffusers itself deprecates, and say so to whoever makes one of them
INSIDE = re.compile(r"`(LoraLoaderMixin|FluxPosEmbed)` is deprecated")
# they stand between a caller and a library; `typing_extensions.deprecated` gives the warning itself, to whoever calls
BETWEEN = {"logging", "functools", "contextlib", "importlib", "_frozen_importlib", "lightning_utilities", "own_calls"}
ONE = {"lightning": "pytorch_lightning", "lightning_fabric": "pytorch_lightning"}  # packages of one library


class DeprecatedCall(BaseException):
    """Our code uses what a library will remove. No Exception, so that no handler of ours takes it for bad input."""


def library(frame: FrameType) -> str:
    """The package that a frame's code belongs to: "ours", or its top-level name."""
    top = str(frame.f_globals.get("__name__", "")).split(".")[0]
    if top == "own_calls":
        return top
    return "ours" if top == "pullback" or frame.f_code.co_filename.startswith(OURS) else ONE.get(top, top)


def culprit() -> FrameType | None:
    """Our frame that called the library which gives a warning now.

    None where another library called it, where ours gives it, and where the library's modules import each other.
    """
    frame: FrameType | None = sys._getframe(1)
    giver = None
    while frame is not None:
        name = library(frame)
        if name not in BETWEEN:
            if giver is None:
                giver = name
            elif name != giver:
                return frame if name == "ours" else None
            elif frame.f_code.co_name == "<module>":
                return None
        frame = frame.f_back
    return None


def refuse(message: Any) -> None:
    """Raises where our code is what made a library give this message."""
    frame = None if INSIDE.match(str(message)) else culprit()
    if frame is not None:
        place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        raise DeprecatedCall(f"{place} calls what is deprecated: {' '.join(str(message).split())}")


def install() -> None:
    """From now on, in this process: before the libraries are imported, since some take `warn` by name."""
    warn, log = warnings.warn, logging.Logger.warning
    if hasattr(warn, "__wrapped__"):
        return

    @functools.wraps(warn)
    def checked(message: Any, category: Any = None, stacklevel: int = 1, *args: Any, **kwargs: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        if issubclass(kind, CATEGORIES) or WORDS.search(str(message)):
            refuse(message)
        warn(message, category, stacklevel + 1, *args, **kwargs)

    @functools.wraps(log)
    def checked_log(self: logging.Logger, message: Any, *args: Any, **kwargs: Any) -> None:
        if WORDS.search(str(message)):
            refuse(message)
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        log(self, message, *args, **kwargs)

    warnings.warn, logging.Logger.warning = checked, checked_log
