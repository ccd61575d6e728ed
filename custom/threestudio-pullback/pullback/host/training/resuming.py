"""Going on from a checkpoint: what it makes fail before the first batch is said of it, in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities.model_helpers import is_overridden

from ...errors import UserError, first_line
from ..base import read_checkpoint
from ..explain import explain
from ..folders import lies_in
from .checkpoint import EARLIER


class Resuming(Callback):
    """A callback, and the context of the run that has it.

    Args:
        path: The checkpoint; None where there is none.
        step: What it says of how many steps it has.

    Raises:
        UserError: At the end of the context, in place of an error that the checkpoint is the reason of.
    """

    def __init__(self, path: str | None, step: int) -> None:
        self.path, self.step, self.over = path, step, path is None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Checks that the host goes on at the checkpoint's step."""
        if self.path is not None and trainer.global_step != self.step:
            raise UserError(
                f"`resume`: {self.path} is damaged: it has {self.step} steps, but training would go on after "
                f"{trainer.global_step}; {EARLIER}"
            )

    def catch_up(self, trainer: Any, system: Any, data: Any) -> None:
        """Validates the checkpoint's step where its run ended between the two: Lightning goes on behind it."""
        every, folder = trainer.val_check_interval, Path(system.get_save_dir())
        if self.path is None or not lies_in(self.path, os.fspath(folder.parent)) or not trainer.limit_val_batches:
            return
        due = isinstance(every, int) and self.step > 0 and self.step * trainer.accumulate_grad_batches % every == 0
        able = is_overridden("validation_step", system) and is_overridden("val_dataloader", data)
        if not due or not able or any(folder.glob(f"it{self.step}-val*")):
            return
        system.set_resume_status(read_checkpoint(self.path, "resume")["epoch"], self.step)
        trainer.validate(system, datamodule=data, ckpt_path=self.path, verbose=False)
        system.forget_resume_status()
        self.over = False

    def _begun(self, *_: Any) -> None:
        self.over = True

    on_train_batch_start: Any = _begun
    on_validation_batch_start: Any = _begun
    on_test_batch_start: Any = _begun
    on_predict_batch_start: Any = _begun

    def __enter__(self) -> Resuming:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if self.over or not isinstance(error, Exception) or isinstance(error, OSError) or explain(error) is not None:
            return
        if "Error(s) in loading state_dict" in str(error):
            detail = " ".join(line.strip() for line in str(error).splitlines()[1:2])
            raise UserError(f"`resume`: {self.path} does not fit this config: {detail}") from error
        raise UserError(
            f"`resume`: a run cannot go on from {self.path}, which is damaged or was written by another program "
            f"({type(error).__name__}: {first_line(error)}); {EARLIER}"
        ) from error
