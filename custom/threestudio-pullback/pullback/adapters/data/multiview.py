"""`pullback-multiview-datamodule`: groups of cameras round the object, for models that see several views at once.

The keys are those of `random-camera-datamodule` and, with `n_view`, `relative_radius` and `zoom_range`, those of
MVDream's datamodule.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from pullback.errors import ConfigError, check_at_least
from pullback.seeding import derive_seed
from pullback.views.cameras import camera_batch, orbit
from pullback.views.groups import evenly
from torch import Generator, Tensor

from .._framework import DRAWN_ANEW, register
from .views import SIZES, ShownViews, TrainingViews, ViewsDataModule

RANGES = {
    "elevation_range": (-90, 90), "azimuth_range": (-math.inf, math.inf), "camera_distance_range": (0, math.inf),
    "fovy_range": (0, 180), "zoom_range": (0, math.inf),
}  # fmt: skip


@dataclass
class MultiViewDataConfig:
    """Groups of cameras that look at the origin; in evaluation, a turntable. Ranges are [low, high], angles degrees.

    Attributes:
        height: Rows of a picture.
        width: Its columns.
        batch_size: Pictures in a batch, a multiple of n_view.
        n_view: Views in a group, evenly round the object at one elevation, distance and angle of view.
        elevation_range: Of the groups' elevation.
        azimuth_range: Of the groups' first cameras; the groups of a batch are spread over its part of 1/n_view.
        camera_distance_range: Of the groups' distance from the origin.
        relative_radius: Whether the distance is in units of 1 / tan(fovy / 2), so that all fovy show as much.
        fovy_range: Of the vertical angle of view.
        zoom_range: Of a factor of fovy, drawn after the distance.
        eval_height: Rows of an evaluation view.
        eval_width: Its columns.
        n_val_views: Views of the turntable at validation.
        n_test_views: Views of the turntable at the end.
        eval_fovy_deg: Vertical angle of view in evaluation.
        eval_elevation_deg: Elevation in evaluation.
        eval_camera_distance: Distance in evaluation.
        rays_d_normalize: Whether the rays' directions have length 1.
    """

    height: int = 64
    width: int = 64
    batch_size: int = 8
    n_view: int = 4
    elevation_range: tuple[float, float] = (0, 30)
    azimuth_range: tuple[float, float] = (-180, 180)
    camera_distance_range: tuple[float, float] = (0.8, 1.0)
    relative_radius: bool = True
    fovy_range: tuple[float, float] = (15, 60)
    zoom_range: tuple[float, float] = (1.0, 1.0)
    eval_height: int = 512
    eval_width: int = 512
    n_val_views: int = 4
    n_test_views: int = 120
    eval_fovy_deg: float = 40.0
    eval_elevation_deg: float = 15.0
    eval_camera_distance: float = 3.0
    rays_d_normalize: bool = True

    def __post_init__(self) -> None:
        check_at_least(self, 1, *SIZES, "n_view")
        if self.batch_size % self.n_view:
            raise ConfigError("batch_size", f"must be a multiple of n_view ({self.n_view}), not {self.batch_size}")
        for name, (least, most) in RANGES.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                bounds = f" within {least} and {most}" if math.isfinite(most) else ""
                raise ConfigError(name, f"must be [low, high] with low ≤ high{bounds}, not [{low}, {high}]")
        for name in ("camera_distance_range", "fovy_range", "zoom_range"):
            if not getattr(self, name)[0] > 0:
                raise ConfigError(name, f"must be above 0, not {getattr(self, name)[0]}")
        if not self.fovy_range[1] * self.zoom_range[1] < 180:
            raise ConfigError("fovy_range", f"must stay below 180 after zoom_range, not {self.fovy_range[1]}")
        if not 0 < self.eval_fovy_deg < 180:
            raise ConfigError("eval_fovy_deg", f"must lie in (0, 180), not at {self.eval_fovy_deg}")
        if not self.eval_camera_distance > 0:
            raise ConfigError("eval_camera_distance", f"must be above 0, not {self.eval_camera_distance}")


def orbit_batch(
    cfg: Any, elevation: Tensor, azimuth: Tensor, distance: Tensor, fovy: Tensor, height: int, width: int
) -> dict[str, Any]:
    """Cameras [V] that look at the origin, with the host's keys; fovy in radians, other angles in degrees."""
    batch = camera_batch(orbit(elevation, azimuth, distance), fovy, height, width, cfg.rays_d_normalize)
    return {
        **batch,
        "light_positions": batch["camera_positions"],
        "elevation": elevation,
        "azimuth": azimuth,
        "camera_distances": distance,
        "height": height,
        "width": width,
    }


class TrainingGroups(TrainingViews):
    """Random groups of cameras, a batch for each step."""

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Sets the step of the next draw, where the framework draws a step's batch after this call."""
        if DRAWN_ANEW:
            self.step = global_step

    def draw(self, step: int) -> dict[str, Any]:
        """The cameras of a step, group by group."""
        cfg, count = self.cfg, self.cfg.batch_size // self.cfg.n_view
        generator = Generator().manual_seed(derive_seed(self.seed, step, "cameras"))

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, generator=generator)

        share = (uniform(0, 1) + torch.arange(count)) / count / cfg.n_view
        low, high = cfg.azimuth_range
        first, height = low + share * (high - low), uniform(*cfg.elevation_range)
        elevation, azimuth = evenly(cfg.n_view).spread(height, first)
        fovy, distance, zoom = (uniform(*r) for r in (cfg.fovy_range, cfg.camera_distance_range, cfg.zoom_range))
        if cfg.relative_radius:
            distance = distance / torch.tan(torch.deg2rad(fovy) / 2)
        distance, fovy = (part.repeat_interleave(cfg.n_view) for part in (distance, torch.deg2rad(fovy * zoom)))
        return orbit_batch(cfg, elevation, azimuth, distance, fovy, cfg.height, cfg.width)


class Turntable(ShownViews):
    """n_views cameras round the origin from azimuth 0°, one at a time, with their index [1]."""

    def collate(self, indices: list[int]) -> dict[str, Any]:
        """The views of these indices."""
        cfg, index = self.cfg, torch.tensor(indices)
        azimuth = index * (360.0 / self.n_views)
        elevation, distance, fovy = (
            torch.full_like(azimuth, float(value))
            for value in (cfg.eval_elevation_deg, cfg.eval_camera_distance, math.radians(cfg.eval_fovy_deg))
        )
        size = cfg.eval_height, cfg.eval_width
        return {"index": index, **orbit_batch(cfg, elevation, azimuth, distance, fovy, *size)}


@register("pullback-multiview-datamodule")
class MultiViewDataModule(ViewsDataModule):
    """Groups of cameras to train with, and a turntable to look at."""

    Config = MultiViewDataConfig
    training = TrainingGroups
    evaluation = Turntable
