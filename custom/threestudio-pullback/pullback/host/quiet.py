"""What a run prints: our own messages, not those of the packages it uses."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from .registry import logger


class _Stdout(logging.Handler):
    """Prints messages, at once or, from `hold` on, when `release` is called."""

    held: list[str] | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if self.held is None:
            print(self.format(record), flush=True)
        else:
            self.held.append(self.format(record))


_stdout = _Stdout()


def quieten(verbose: bool) -> None:
    """Shows our own messages on stdout, and the packages' messages and warnings only with `verbose`.

    Call it after Lightning is imported, which sets its own level then.
    """
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not logger.handlers:
        logger.addHandler(_stdout)
    if verbose:
        return
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", module="(pytorch_)?lightning")


def hold() -> None:
    """Keeps our own messages back until `release`: a run that is refused says nothing but why."""
    _stdout.held = []


def release(said: bool = True) -> None:
    """Prints what has been kept back, or drops it, and what comes later at once."""
    lines, _stdout.held = _stdout.held or [], None
    for line in lines if said else ():
        print(line, flush=True)


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """Prints no OSError of a thread, such as a full disk: the thread's owner raises it again in the main thread."""

    def report(args: Any) -> None:
        if not isinstance(args.exc_value, OSError):
            before(args)

    before, threading.excepthook = threading.excepthook, report
    try:
        yield
    finally:
        threading.excepthook = before
