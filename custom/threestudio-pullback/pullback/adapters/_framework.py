"""The one file that chooses the adapters' framework: threestudio if it is loaded, otherwise the bundled host."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import IterableDataset, default_collate

from ..host.data import datamodule

if "threestudio" in sys.modules and not TYPE_CHECKING:
    from threestudio import __modules__ as registered
    from threestudio import find, info, register
    from threestudio.models.background.base import BaseBackground
    from threestudio.models.geometry.base import BaseGeometry
    from threestudio.models.materials.base import BaseMaterial
    from threestudio.models.renderers.base import Renderer
    from threestudio.systems.base import BaseLift3DSystem, BaseSystem
    from threestudio.utils.base import BaseModule, BaseObject, Updateable
    from threestudio.utils.config import config_to_primitive, parse_structured
    from threestudio.utils.misc import C, get_device

    from ._threestudio import (
        batch_of_step,
        draw_batch,
        keep_checkpoints_whole,
        keep_command,
        run_seed,
        seed_step,
        warn,
        write_page,
    )

    DRAWN_ANEW = True
else:
    from ..host.base import BaseModule, BaseObject, Updateable, get_device
    from ..host.config import C, config_to_primitive, parse_structured
    from ..host.registry import _classes as registered
    from ..host.registry import find, info, register, warn
    from ..host.scene.background import BaseBackground
    from ..host.scene.geometry import BaseGeometry
    from ..host.scene.material import BaseMaterial
    from ..host.scene.renderer import Renderer
    from ..host.training.systems import BaseLift3DSystem, BaseSystem

    DRAWN_ANEW = False
    """Whether `batch_of_step`, not the loader, draws the batch of a step, after the dataset's update_step."""

    def run_seed() -> int:
        """The run's seed, which is that of every process, while the parts of a run are built."""
        return torch.initial_seed()

    def seed_step(seed: int, step: int) -> None:
        """Nothing: the host seeds every step itself."""

    def batch_of_step(system: Any, batch: Any) -> Any:
        """The batch itself: the host's batch k depends on (seed, k) alone."""
        return batch

    def draw_batch(system: Any, seed: int) -> Any:
        """The dataset's cameras of this step, drawn with another seed than the run's."""
        dataset = copy.copy(system.dataset)
        dataset.seed = seed
        return dataset.collate({})

    def keep_checkpoints_whole(trainer: Any) -> None:
        """Nothing: the host's are whole."""

    def keep_command(system: Any) -> None:
        """Nothing: the host's cmd.txt has it."""

    def write_page(system: Any) -> None:
        """Nothing: the host writes the page itself."""


__all__ = [
    "DRAWN_ANEW",
    "BaseBackground",
    "BaseGeometry",
    "BaseLift3DSystem",
    "BaseMaterial",
    "BaseModule",
    "BaseObject",
    "BaseSystem",
    "C",
    "Renderer",
    "Updateable",
    "batch_of_step",
    "calling_system",
    "config_to_primitive",
    "datamodule",
    "find",
    "fresh_batch",
    "get_device",
    "info",
    "keep_checkpoints_whole",
    "keep_command",
    "load_adapters",
    "parse_structured",
    "register",
    "registered",
    "run_seed",
    "seed_step",
    "warn",
    "write_page",
]


def calling_system() -> Any:
    """The system whose training or validation step calls this; None outside of one.

    A guidance gets pictures and cameras only, but the number of steps and the weight of its loss belong to the system.
    """
    frame: Any = sys._getframe(1)
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, BaseSystem):
            return caller
        frame = frame.f_back
    return None


def fresh_batch(system: Any, generator: torch.Generator) -> Any:
    """A training batch of the config's own distribution that no fit has had.

    A dataset that draws cameras draws new ones; of one that holds its cameras, some are picked at random.
    """
    seed = int(torch.randint(2**31, (), generator=generator))
    if hasattr(system.dataset, "collate") and isinstance(system.dataset, IterableDataset):
        batch = draw_batch(system, seed)
    else:
        loader = system.trainer.train_dataloader
        picks = torch.randint(len(loader.dataset), (loader.batch_size or 1,), generator=generator).tolist()
        batch = (loader.collate_fn or default_collate)([loader.dataset[i] for i in picks])
    return system.transfer_batch_to_device(batch, system.device, 0)


def load_adapters() -> None:
    """Imports every adapter, so that its names are in the framework's registry."""
    package = importlib.import_module("pullback.adapters")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
