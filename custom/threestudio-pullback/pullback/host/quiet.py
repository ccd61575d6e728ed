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
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


def quieten(verbose: bool) -> None:
    """Shows our own messages on stdout, and the packages' messages and warnings only with `verbose`.

    Call it after Lightning is imported, which sets its own level then.
    """
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not logger.handlers:
        logger.addHandler(_Stdout())
    if verbose:
        return
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", module="(pytorch_)?lightning")


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
