"""What a run prints: our own messages, and not what others log, warn of or repeat."""

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
    """Our own messages on stdout; Lightning's, which sets its level when imported, only with `verbose`."""
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
    """A writer thread that meets a full disk says nothing: its owner raises the same error in the main thread."""

    def tell(args: Any) -> None:
        if not isinstance(args.exc_value, OSError):
            before(args)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before
