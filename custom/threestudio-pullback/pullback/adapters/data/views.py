"""A datamodule of views, as a Lightning one; Lightning is imported only where one is made."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from pullback.errors import check_at_least
from torch.utils.data import DataLoader, Dataset, IterableDataset

from .._framework import Updateable, parse_structured

SIZES = ("height", "width", "batch_size", "eval_height", "eval_width", "n_val_views", "n_test_views")
"""What every config of such a datamodule has, by the host's names."""


def check_sizes(cfg: Any) -> None:
    """ConfigError where one of a config's `SIZES` is below 1."""
    check_at_least(cfg, 1, *SIZES)


class TrainingViews(IterableDataset, Updateable):
    """Batches without end; a subclass makes them by `collate`."""

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield {}


class ShownViews(Dataset):
    """n_views views to look at, shown one at a time; a subclass makes batches of their indices by `collate`."""

    def __init__(self, cfg: Any, n_views: int) -> None:
        super().__init__()
        self.cfg, self.n_views = cfg, n_views

    def __len__(self) -> int:
        return self.n_views

    def __getitem__(self, index: int) -> int:
        return index


class ViewsDataModule:
    """Base of a registered datamodule; what a call makes is a LightningDataModule.

    A subclass names Config; training, the dataset class of a config, which yields without end; and evaluation, that of
    a config and a number of views. Both have `collate`. Where a training dataset has a `step`, that is the index of its
    next batch, which a resumed run finds set.
    """

    Config: Any
    training: Any
    evaluation: Any

    def __new__(cls, cfg: Any = None) -> Any:
        return _lightning()(cls, parse_structured(cls.Config, cfg))


@functools.cache
def _lightning() -> Any:
    import pytorch_lightning as pl

    class Views(pl.LightningDataModule):
        def __init__(self, kind: type[ViewsDataModule], cfg: Any) -> None:
            super().__init__()
            self.kind, self.cfg = kind, cfg

        def setup(self, stage: str | None = None) -> None:
            if stage in (None, "fit"):
                self.train_dataset = self.kind.training(self.cfg)
            if stage in (None, "fit", "validate"):
                self.val_dataset = self.kind.evaluation(self.cfg, self.cfg.n_val_views)
            if stage in (None, "test", "predict"):
                self.test_dataset = self.kind.evaluation(self.cfg, self.cfg.n_test_views)

        def train_dataloader(self) -> DataLoader:
            data = self.train_dataset
            if hasattr(data, "step") and self.trainer is not None:  # by now a checkpoint's counters are restored
                data.step = self.trainer.global_step * self.trainer.accumulate_grad_batches
            return DataLoader(data, batch_size=None, num_workers=0, collate_fn=data.collate)

        def val_dataloader(self) -> DataLoader:
            return _shown(self.val_dataset)

        def test_dataloader(self) -> DataLoader:
            return _shown(self.test_dataset)

        def predict_dataloader(self) -> DataLoader:
            return _shown(self.test_dataset)

    return Views


def _shown(data: Any) -> DataLoader:
    return DataLoader(data, batch_size=1, collate_fn=data.collate)
