"""What real threestudio lacks for an exact resume: random numbers by (seed, step), checkpoints that are whole."""

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
    """The cameras of this step, drawn now by the dataset whose `collate` makes them up.

    The loader's own batch was drawn one step ahead, with what the generators and the dataset's schedules happened to
    be then; after a resume that is something else. A dataset that reads its batches keeps the one given.
    """
    if hasattr(system.dataset, "collate") and isinstance(system.dataset, torch.utils.data.IterableDataset):
        batch = system.transfer_batch_to_device(system.dataset.collate({}), system.device, 0)
    _check_cameras(batch)
    return batch


def draw_batch(system: Any, seed: int) -> Any:
    """Cameras as the dataset's `collate` draws them with this seed; every global generator stays where it was."""
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
    """Checkpoints are written beside their target and renamed, so that a killed run leaves the one before.

    Older versions of Lightning write in place. A checkpoint plugin of the user's own stays.
    """
    from pullback.host.training.checkpoint import AtomicCheckpointIO  # by now threestudio has loaded Lightning
    from pytorch_lightning.plugins.io import TorchCheckpointIO

    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()
