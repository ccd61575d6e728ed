"""Additions to real threestudio for an exact resume: random numbers by (seed, step), and whole checkpoints."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from pullback.errors import UserError
from pullback.seeding import derive_seed


def seed_step(seed: int, step: int) -> None:
    """Seeds every global generator from (seed, step)."""
    value = derive_seed(seed, step, "step")
    torch.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)


def batch_of_step(system: Any, batch: Any) -> Any:
    """The cameras of this step, drawn now where the dataset's `collate` draws them.

    The loader draws its batch one step ahead, with the generators' and the schedules' state of then, which is another
    one after a resume. A dataset that reads its batches keeps the loader's.
    """
    dataset: Any = system.dataset
    if hasattr(dataset, "collate") and isinstance(dataset, torch.utils.data.IterableDataset):
        batch = system.transfer_batch_to_device(system.dataset.collate({}), system.device, 0)
    _check_cameras(batch)
    return batch


def draw_batch(system: Any, seed: int) -> Any:
    """The cameras of the dataset's `collate` for this seed; every global generator keeps its state."""
    states = np.random.get_state(), random.getstate()
    with torch.random.fork_rng():
        seed_step(seed, 0)
        batch = system.dataset.collate({})
    np.random.set_state(states[0])
    random.setstate(states[1])
    return batch


def _check_cameras(batch: dict[str, Any]) -> None:
    axes = batch["c2w"][:, :3, :3] if "c2w" in batch else torch.eye(3)
    if not torch.allclose(axes.mT @ axes, torch.eye(3).to(axes), atol=1e-3):
        raise UserError(
            f"the cameras of a batch of {len(axes)} are no rotations: threestudio's random-camera-datamodule draws "
            "wrong ones where `data.batch_size` is 3; choose another number"
        )


def keep_checkpoints_whole(trainer: Any) -> None:
    """Makes Lightning write a checkpoint beside its target and rename it, so that a killed run keeps the previous one.

    Older versions of Lightning write in place. A checkpoint plugin of the user's own stays.
    """
    from pullback.host.training.checkpoint import AtomicCheckpointIO  # threestudio has loaded Lightning already
    from pytorch_lightning.plugins.io import TorchCheckpointIO

    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
