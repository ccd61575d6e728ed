"""Renders of a run's scene from its saved config and checkpoints, whatever system made it, here or in threestudio."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..host import config, parts
from ..host.training import systems
from .studio import world as worlds

PARTS = ("geometry.", "material.", "background.", "renderer.")


class SavedRun:
    """The scene of a run's folder: geometry, material, background and renderer, built by the bundled host.

    Args:
        folder: The run's folder, with configs/parsed.yaml and ckpts/.
        imports: The modules of the run's `--import`.

    Attributes:
        distance: Distance of the cameras from the origin: of the training cameras where all have one, so that a run is
            judged as it was made, and otherwise of the evaluation cameras.
        fovy_deg: Their vertical field of view, in degrees, chosen alike.
        elevation_deg: Elevation of the evaluation cameras, in degrees.
        step: Training steps behind the loaded checkpoint; -1 before one is loaded.
    """

    def __init__(self, folder: Path, imports: Sequence[str] = ()) -> None:
        parts.load_parts(imports)
        self.folder = folder
        cfg = config.load_config(str(folder / "configs" / "parsed.yaml"))
        keys = {field.name for field in dataclasses.fields(systems.BaseLift3DSystem.Config)}
        # guidance, prompts and what else a system has are no part of its scene
        scene = {key: value for key, value in cfg.system.items() if key in keys and key not in ("weights", "loggers")}
        self.system = systems.BaseLift3DSystem(scene)
        self.system.eval()
        self.distance = _one(cfg.data, "camera_distance_range", "eval_camera_distance", worlds.CAMERA_DISTANCE)
        self.fovy_deg = _one(cfg.data, "fovy_range", "eval_fovy_deg", worlds.FOVY_DEG)
        self.elevation_deg = float(cfg.data.get("eval_elevation_deg", 15.0))
        self.step = -1

    def checkpoints(self) -> list[Path]:
        """The checkpoints but last.ckpt, in the order of their steps."""
        files = (file for file in (self.folder / "ckpts").glob("*.ckpt") if file.name != "last.ckpt")
        return sorted(files, key=lambda file: int(file.stem.rpartition("step=")[2]))

    def load(self, checkpoint: Path | None = None) -> int:
        """Loads the parameters of a checkpoint, None meaning the last one; returns its training step."""
        checkpoint = checkpoint or self.folder / "ckpts" / "last.ckpt"
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
        scene = {name: value for name, value in saved["state_dict"].items() if name.startswith(PARTS)}
        self.system.load_state_dict(scene)
        self.system.do_update_step(saved["epoch"], saved["global_step"], on_load_weights=True)
        self.step = int(saved["global_step"])
        return self.step

    @torch.no_grad()
    def render(self, c2w: Tensor, size: int = 64) -> Tensor:
        """Renders pictures [V,3,size,size] in [-1,1] from cameras [V,4,4]; loads the last checkpoint if none is."""
        if self.step < 0:
            self.load()
        return torch.cat([self._render(part, size) for part in c2w.split(8)])

    @torch.no_grad()
    def backdrop(self, c2w: Tensor, size: int = 64) -> Tensor:
        """What the run has behind its object [V,3,size,size] in [0,1]; loads the last checkpoint if none is."""
        if self.step < 0:
            self.load()
        directions = worlds.camera_rays(c2w, size, self.fovy_deg)[1]
        return self.system.background(dirs=directions).movedim(-1, 1)

    def _render(self, c2w: Tensor, size: int) -> Tensor:
        origins, directions = worlds.camera_rays(c2w, size, self.fovy_deg)
        batch = {
            "rays_o": origins, "rays_d": directions, "c2w": c2w, "camera_positions": c2w[:, :3, 3],
            "light_positions": c2w[:, :3, 3], "height": size, "width": size,
        }  # fmt: skip
        return self.system.renderer(**batch)["comp_rgb"].movedim(-1, 1) * 2 - 1


def _one(data: Any, training: str, evaluation: str, otherwise: float) -> float:
    """The value of a range that is one value, or else that of the evaluation cameras."""
    low, high = data.get(training) or (None, None)
    return float(low if low is not None and low == high else data.get(evaluation, otherwise))
