"""Makes one unit in this process, by the bundled host, and says what came of it."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..host.base import read_checkpoint
from .folder import Folder
from .plan import Unit
from .process import last_error, printing_to

STOPPED = (130, 143)
"""Exit statuses of a run that was stopped by Ctrl-C or SIGTERM."""


@dataclass(frozen=True)
class Outcome:
    """What came of a unit.

    Attributes:
        values: What the result has of a run that is done.
        reason: Why it failed; None where it did not.
        stopped: Whether it was stopped in good order, and can go on.
    """

    values: dict[str, Any]
    reason: str | None = None
    stopped: bool = False


def command(folder: Folder, unit: Unit) -> list[str]:
    """The words of launch.py that make a unit; they resume from its last checkpoint, where there is one."""
    variant = folder.variants[unit.variant]
    words = [word for name in variant.imports for word in ("--import", name)]
    words += ["--config", str(folder.config(unit)), "--train", *variant.words]
    words += [
        f"system.prompt_processor.prompt={unit.prompt}", f"seed={unit.seed}", "use_timestamp=false",
        f"exp_root_dir={folder.out / 'runs'}", f"name={unit.variant}", f"tag={unit.tag}",
    ]  # fmt: skip
    checkpoint = folder.checkpoint(unit)
    return [*words, f"resume={checkpoint}"] if checkpoint.exists() else words


def launched(words: list[str], log: Path) -> tuple[int, int]:
    """Runs launch.py's main in this process, and adds what it prints to a log.

    Returns:
        Its exit status, and the byte of the log at which it began.
    """
    from ..host import launch

    start, argv = log.stat().st_size if log.exists() else 0, sys.argv
    sys.argv = ["pullback"]  # so that the commands that a run prints are those of `pullback launch`
    try:
        with printing_to(log):
            return launch.main(words), start
    finally:
        sys.argv = argv


def make(folder: Folder, unit: Unit) -> Outcome:
    """Makes a unit, or goes on with it; what it prints goes to its log."""
    log, began = folder.log(unit), time.monotonic()
    status, start = launched(command(folder, unit), log)
    seconds = round(time.monotonic() - began, 1)
    if status in STOPPED:
        return Outcome({"seconds": seconds}, stopped=True)
    if status:
        return Outcome({"seconds": seconds}, last_error(log, start))
    try:
        return Outcome({"seconds": seconds, **measured(folder, unit)})
    except UserError as error:
        return Outcome({"seconds": seconds}, str(error))


def measured(folder: Folder, unit: Unit) -> dict[str, Any]:
    """What a finished run's checkpoint says: the same in every making of it, however often it was interrupted.

    Returns:
        The number of training steps and `parameters`, SHA-256 of all of them as 16 hex digits; of a sampler also nfe,
        residual and consistency.

    Raises:
        UserError: There is no checkpoint.
    """
    content = read_checkpoint(os.fspath(folder.checkpoint(unit)), "resume")
    state = content.get("pullback", {})
    found = {key: state[key] for key in ("nfe", "residual", "consistency") if state.get(key) is not None}
    return {"steps": content["global_step"], **found, "parameters": digest(content["state_dict"])}


def digest(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors, as 16 hex digits."""
    sha = hashlib.sha256()
    for name, value in sorted(state.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()[:16]
