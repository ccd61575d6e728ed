"""A datamodule of views: batches without end to train with, single views to look at.

Lightning is imported only where one is made, and nothing of the host: the adapters in threestudio have it too.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset


class TrainingViews(IterableDataset):
    """Training batches without end; batch k depends on (seed, k) alone.

    A subclass gives `draw`. `seed` is the run's seed; `step` is the index of the next batch, which `collate` increases.
    `updates` is how many steps the optimiser takes with a batch; schedules, such as milestones, count those.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.seed, self.step, self.updates = torch.initial_seed(), 0, 1

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield {}

    def draw(self, step: int) -> dict[str, Any]:
        """Override: the batch of a step."""
        raise NotImplementedError

    def collate(self, _: Any) -> dict[str, Any]:
        """The batch of the present step."""
        batch = self.draw(self.step)
        self.step += 1
        return batch


class ShownViews(Dataset):
    """n_views views to look at, shown one at a time; a subclass makes batches of their indices by `collate`."""

    def __init__(self, cfg: Any, n_views: int) -> None:
        super().__init__()
        self.cfg, self.n_views = cfg, n_views

    def __len__(self) -> int:
        return self.n_views

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: list[int]) -> dict[str, Any]:
        """Override: the views of these indices as one batch, with the keys of training and `index` [B]."""
        raise NotImplementedError


class ViewsDataModule:
    """Base of a registered datamodule; calling the class makes a LightningDataModule.

    A subclass names `Config`; `parse`, which checks a block of config against it; `training`, the dataset of a config;
    and `evaluation`, the dataset of a config and a number of views.
    """

    role = "data"

    Config: Any
    parse: Any
    training: type[TrainingViews]
    evaluation: type[ShownViews]

    def __new__(cls, cfg: Any = None) -> Any:
        """A LightningDataModule of a block of config."""
        return _lightning()(cls, cls.parse(cls.Config, cfg))


@functools.cache
def _lightning() -> Any:
    import pytorch_lightning as pl

    class Views(pl.LightningDataModule):
        def __init__(self, kind: type[ViewsDataModule], cfg: Any) -> None:
            super().__init__()
            self.kind, self.cfg, self.updates = kind, cfg, 1

        def setup(self, stage: str | None = None) -> None:
            if stage in (None, "fit"):
                self.train_dataset = self.kind.training(self.cfg)
            if stage in (None, "fit", "validate"):
                self.val_dataset = self.kind.evaluation(self.cfg, self.cfg.n_val_views)
            if stage in (None, "test", "predict"):
                self.test_dataset = self.kind.evaluation(self.cfg, self.cfg.n_test_views)

        def train_dataloader(self) -> DataLoader:
            data = self.train_dataset
            data.updates = self.updates
            if self.trainer is not None:  # by now a checkpoint's counters are restored
                data.step = self.trainer.global_step * self.trainer.accumulate_grad_batches
            return DataLoader(data, batch_size=None, num_workers=0, collate_fn=data.collate)

        def val_dataloader(self) -> DataLoader:
            return DataLoader(self.val_dataset, batch_size=1, collate_fn=self.val_dataset.collate)

        def test_dataloader(self) -> DataLoader:
            return DataLoader(self.test_dataset, batch_size=1, collate_fn=self.test_dataset.collate)

        def predict_dataloader(self) -> DataLoader:
            return self.test_dataloader()

    return Views
