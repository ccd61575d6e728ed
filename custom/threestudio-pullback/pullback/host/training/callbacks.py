"""What the host does around training: exact resume, safe stops, a copy of the config, a progress line."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback, ProgressBar

from ...errors import NonFiniteError, UserError
from ...output import whole
from ...resources import find as find_shipped
from ...seeding import derive_seed
from ..config import dump_config
from ..quiet import release
from ..registry import info
from ..several import agreed
from .checkpoint import KEY, AtomicCheckpointIO


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM; `signum` says which. It is no Exception, so that no `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class Begun(Callback):
    """Shows what has been kept back of a run's messages once its first batch is at hand, with all parts built."""

    def _begun(self, *_: Any) -> None:
        release()

    on_train_batch_start: Any = _begun
    on_validation_batch_start: Any = _begun
    on_test_batch_start: Any = _begun
    on_predict_batch_start: Any = _begun


class StepSeed(Callback):
    """Seeds every training step from (seed, step), so that resuming and validating change no draw."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Seeds PyTorch's, NumPy's and Python's generators."""
        part = batch_idx % trainer.accumulate_grad_batches
        seed = derive_seed(self.seed, trainer.global_step, part, "step") % 2**32
        # not by Lightning's seed_everything, which sets a variable of the environment: glibc keeps every value of one
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


class SafeStop(Callback):
    """Copies the state after every whole step, and writes the copy to `path` where training ends early.

    The first SIGINT or SIGTERM during training lets the step finish; a second one, or one outside of
    training, raises `Interrupted` at once. Use it as a context manager around the whole run.
    """

    def __init__(self, io: AtomicCheckpointIO, path: str, seal: dict[str, Any]) -> None:
        self.io, self.path, self.seal = io, path, seal
        self.received: int | None = None
        self._training = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> SafeStop:
        self._before = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def _on_signal(self, signum: int, _: Any) -> None:
        if not self._training or self.received is not None:
            raise Interrupted(signum)
        self.received = signum
        info("\nStopping after this step; once more stops at once")

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Adds the version and the config's signature to the checkpoint; the logs reach the disk no later than it."""
        checkpoint[KEY] = self.seal
        for logger in trainer.loggers:
            if hasattr(logger.experiment, "flush"):
                logger.experiment.flush()

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Copies the first state, and handles the signals from now on."""
        # Lightning has put its own SIGTERM handler over ours, which would end the run without a checkpoint
        for signum in self._before:
            signal.signal(signum, self._on_signal)
        self._training = True
        trainer.save_checkpoint(self.io.MEMORY)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Copies the state; raises NonFiniteError for a NaN or infinity in it, Interrupted after a signal."""
        state = pl_module.state_dict()
        fine = torch.stack([value.isfinite().all() for value in state.values()]).tolist() if state else []
        if not all(fine):
            name = list(state)[fine.index(False)]
            logged = "".join(f", {k} {v:.4g}" for k, v in trainer.progress_bar_metrics.items())
            raise NonFiniteError(f"stopped after step {trainer.global_step}{logged}: `{name}` has a NaN or infinity")
        trainer.save_checkpoint(self.io.MEMORY)
        if received := agreed(self.received or 0, pl_module.device):
            raise Interrupted(received)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """From now on a signal ends the run at once."""
        self._training = False

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Writes the copy to `path`, unless no step is done, the disk refuses, or the user has to mend something."""
        # where a process of several has failed, their launcher sends this signal to the others at once
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            in_training, self._training = self._training, False
            if not in_training or self.io.copy is None or isinstance(exception, (UserError, OSError)):
                return  # of several processes the first has the copy
            if self.io.copy["global_step"] > 0:
                self.io.write_copy(self.path)
        finally:
            signal.signal(signal.SIGTERM, before)


class ConfigSnapshot(Callback):
    """Copies the config into the run's folder, as it was written and as it was parsed."""

    def __init__(self, source: str, config: Any, folder: str) -> None:
        self.source, self.config, self.folder = source, config, folder

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Writes raw.yaml and parsed.yaml."""
        os.makedirs(self.folder, exist_ok=True)
        raw, parsed = (os.path.join(self.folder, f"{n}.yaml") for n in ("raw", "parsed"))
        if os.path.abspath(self.source) not in (os.path.abspath(raw), os.path.abspath(parsed)):
            whole.write(raw, Path(find_shipped(self.source)).read_bytes())
        dump_config(parsed, self.config)


class ProgressLine(ProgressBar):
    """Prints the step, the values logged with prog_bar=True, and the time left.

    In a terminal this is one line that renews itself; elsewhere a new line, at most one in `every` seconds.
    """

    def __init__(self, every: float = 10.0) -> None:
        super().__init__()
        self.every = every
        self.terminal = sys.stdout.isatty()
        self.enabled = True
        self._shown = 0.0
        self._width = 0

    def disable(self) -> None:
        """Prints nothing from now on."""
        self.enabled = False

    def enable(self) -> None:
        """Prints again."""
        self.enabled = True

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Starts the clock of the time left."""
        self._began, self._first = time.monotonic(), trainer.global_step

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Prints the line, where one is due."""
        now, step, total = time.monotonic(), trainer.global_step, trainer.max_steps
        last = step == total
        if not self.enabled or (now - self._shown < (0.2 if self.terminal else self.every) and not last):
            return
        self._shown = now
        words = [f"step {step}/{total}" if total > 0 else f"step {step}"]
        words += [f"{k} {v:.4g}" for k, v in trainer.progress_bar_metrics.items() if isinstance(v, (int, float))]
        if total > 0 and step > self._first:
            words.append(f"{_clock((now - self._began) / (step - self._first) * (total - step))} left")
        self._show(" · ".join(words), end=last)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Prints below the line."""
        self._close()
        print(*args, **kwargs)

    def _show(self, text: str, end: bool) -> None:
        if not self.terminal:
            print(text, flush=True)
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        print("\r" + text.ljust(self._width), end="", flush=True)
        self._width = len(text)
        if end:
            self._close()

    def _close(self, *_: Any) -> None:
        """Ends the line in a terminal, so that what others print begins on one of its own."""
        if self._width:
            print(flush=True)
            self._width = 0

    on_train_end: Any = _close
    on_exception: Any = _close
    on_validation_start: Any = _close


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
