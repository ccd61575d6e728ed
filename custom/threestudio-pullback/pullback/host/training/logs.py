"""The logs of a run: a disk that refuses one is said once, and costs the log alone and no step."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from typing import Any

from pytorch_lightning.callbacks import LearningRateMonitor
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter

from ...output import whole
from ..explain import LOG_ENDS
from ..registry import warn


class _Patient:
    """A mixin, named before the logger: after the first OSError nothing is written any more."""

    refused = False

    @property
    def experiment(self) -> Any:
        """Override: the logger's own, each of whose calls is an attempt."""
        return _Attempts(self)

    def opened(self) -> Any:
        """The logger's own experiment; OSError where it cannot make its folder or file."""
        return super().experiment  # type: ignore[misc]

    def attempt(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls `act`, unless the disk has refused before; None where it refuses."""
        if self.refused:
            return None
        try:
            return act(*args, **kwargs)
        except OSError as error:
            self.refused = True
            warn(f"{LOG_ENDS}: %s; the run goes on", self.name, error.strerror or error)  # type: ignore
            return None

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Logs numbers."""
        self.attempt(super().log_metrics, metrics, step)  # type: ignore[misc]

    def save(self) -> None:
        """Has the log reach the disk."""
        self.attempt(super().save)  # type: ignore[misc]


class _Attempts:
    def __init__(self, log: Any) -> None:
        self._log = log

    def __getattr__(self, name: str) -> Any:
        own = self._log.attempt(self._log.opened)
        value = (lambda *_, **__: None) if own is None else getattr(own, name)
        return functools.partial(self._log.attempt, value) if callable(value) else value


class TensorBoard(_Patient, TensorBoardLogger):
    """TensorBoard's log. A disk that refuses is noticed at the next entry, since a thread writes it."""


class Csv(_Patient, CSVLogger):
    """The same numbers as text."""

    def opened(self) -> Any:
        """Override: a writer that loses no row."""
        if self._experiment is None:
            self._experiment = _Rows(self.log_dir)
        return super().opened()


class _Rows(ExperimentWriter):
    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """Lightning's own empties the file first: on a full disk, and by a kill, all rows before were lost."""
        final = self.metrics_file_path
        with whole.replacing(final) as self.metrics_file_path:
            try:
                shutil.copyfile(final, self.metrics_file_path)
                super()._rewrite_with_new_header(fieldnames)
            finally:
                self.metrics_file_path = final


class LearningRate(LearningRateMonitor):
    """Logs the learning rates. Lightning's own class keeps every past one in memory as well."""

    def on_train_batch_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Logs them."""
        super().on_train_batch_start(trainer, *args, **kwargs)
        for past in self.lrs.values():
            past.clear()
