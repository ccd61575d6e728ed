"""What ends a run as one sentence and an exit status."""

from __future__ import annotations

import errno
import importlib.util
import signal
from collections.abc import Mapping
from typing import Any

from ..errors import NonFiniteError, UserError, first_line, is_out_of_memory, missing_package, unfit_package
from .config.schema import missing_values
from .out_of_memory import shortage
from .several import is_lost

LOG_ENDS = "The log in %s ends here"
# what a disk refuses with: full, quota, too large, broken, read-only, not allowed
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES)


def explain(error: BaseException, blocks: Mapping[str, Any] | None = None) -> tuple[str, int] | None:
    """A sentence and the exit status of `launch.main`; None for a fault of the program.

    Args:
        error: What ended the run.
        blocks: The config's blocks with all defaults, where the run came that far.
    """
    # `Interrupted` lies in a module that imports Lightning
    signum = getattr(error, "signum", signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    if signum is not None:
        return f"stopped by {signal.Signals(signum).name}", 128 + signum
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, NonFiniteError):
        return str(error), 1
    if is_out_of_memory(error):
        return shortage(error, blocks or {}), 1
    if is_lost(error):
        return "another process of this run has ended; where it says nothing, it was killed, perhaps for its memory", 1
    if sentence := unfit_package(error):
        return sentence, 2
    if isinstance(error, ModuleNotFoundError) and (sentence := missing_package(error)):
        return sentence, 2
    if isinstance(error, OSError) and error.errno in _DISK:
        path = error.filename2 or error.filename  # of a copy, the second
        what = f"cannot write {path}" if path else "cannot write a file of the run"
        return f"{what}: {error.strerror}; free space or set `exp_root_dir`; checkpoints written are whole", 2
    if type(error).__name__ == "MisconfigurationException":
        return f"`trainer`: {first_line(error)}", 2
    if type(error).__name__ == "MissingMandatoryValue":
        return missing_values([getattr(error, "full_key", "") or "a value"]), 2
    return None


def need(package: str) -> None:
    """Raises ModuleNotFoundError where a package is missing: now rather than after hours of training."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(package, name=package)
