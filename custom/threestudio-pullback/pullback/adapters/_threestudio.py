"""Additions to real threestudio: random numbers by (seed, step), whole checkpoints, warnings, and the page of a run."""

from __future__ import annotations

import os
import random
import shlex
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from pullback.errors import UserError
from pullback.seeding import derive_seed
from pullback.version import describe


def run_seed() -> int:
    """The run's seed, while the parts of a run are built; launch.py has added the process's rank to it."""
    from threestudio.utils.misc import get_rank

    return torch.initial_seed() - get_rank()


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


def warn(message: str) -> None:
    """Logs a warning, once for all processes; threestudio's own function calls a method that `logging` deprecates."""
    import threestudio

    threestudio.rank_zero_only(threestudio.logger.warning)(message)


def keep_checkpoints_whole(trainer: Any) -> None:
    """Makes Lightning write a checkpoint beside its target and rename it, so that a killed run keeps the previous one.

    Older versions of Lightning write in place. A checkpoint plugin of the user's own stays.
    """
    from pullback.host.training.checkpoint import AtomicCheckpointIO  # threestudio has loaded Lightning already
    from pytorch_lightning.plugins.io import TorchCheckpointIO

    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = AtomicCheckpointIO()


def keep_command(system: Any) -> None:
    """Writes how the run was started, to be pasted, to RUN/command.txt, since threestudio's cmd.txt has no quotes.

    It also says which version runs, as the bundled host does of every run.
    """
    import threestudio
    from pullback.host import record
    from pullback.output import whole

    threestudio.info(describe())
    if system._save_dir is not None:
        command = shlex.join([sys.executable, *sys.orig_argv[1:]])
        whole.write(os.path.join(os.path.dirname(system.get_save_dir()), record.COMMAND), f"{command}\n{describe()}\n")


def write_page(system: Any) -> None:
    """Writes the run's page and its mesh, as the bundled host does at the end of a run."""
    import threestudio
    from pullback.host import page

    if system._save_dir is None:
        return
    try:
        _save_mesh(system)
    except (UserError, ImportError) as e:
        threestudio.info(f"The run's page has no object to turn: {e}")
    folder = os.path.dirname(system.get_save_dir())
    if page.write(folder):
        threestudio.info(f"Look at {os.path.join(folder, page.NAME)}")


def _save_mesh(system: Any) -> None:
    """Writes the surface as a glb, which threestudio's exporter has not, by the bundled host's."""
    from pullback.host.scene.exporter import MeshExporter
    from pullback.host.scene.mesh import SURFACE, isosurface
    from pullback.host.training.saving import SaverMixin

    geometry = system.geometry
    if str(system.cfg.exporter_type) != "mesh-exporter":
        return
    if hasattr(geometry, "forward_density"):
        inside, options = geometry.forward_density, SURFACE
    elif hasattr(geometry, "forward_sdf"):
        inside, options = lambda points: -geometry.forward_sdf(points), {**SURFACE, "isosurface_threshold": 0.0}
    else:
        return
    shown = SimpleNamespace(
        isosurface=lambda: isosurface(inside, SimpleNamespace(**options), geometry.bbox),
        cfg=geometry.cfg, export=geometry.export, forward_density=inside,
    )  # fmt: skip
    files = SaverMixin()
    files.set_save_dir(system.get_save_dir())
    about = {"prompt": str(system.cfg.prompt_processor.get("prompt", "")), "seed": system._seed, "version": describe()}
    files.origin = lambda: about  # type: ignore[method-assign]
    settings = {"fmt": "glb", "save_uv": False}
    for output in MeshExporter(settings, geometry=shown, material=system.material, background=system.background)():
        files.save_mesh(f"it{system.true_global_step}-export/{output.save_name}", **output.params)
