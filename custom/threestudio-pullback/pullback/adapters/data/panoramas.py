"""`pullback-panorama-datamodule`: perspective crops of a panorama, as a batch of cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pullback.errors import ConfigError, UserError, check_at_least
from pullback.seeding import derive_seed
from pullback.views import crops
from pullback.views.cameras import camera_batch
from torch import Generator, Tensor

from .._framework import DRAWN_ANEW, register
from .views import SIZES, ShownViews, TrainingViews, ViewsDataModule

RANGES = ("fovy", "elevation", "overlap", "azimuth")
"""The arguments of `crops.RandomCrops` that are ranges; in a config their names end in _range."""


@dataclass
class PanoramaDataConfig:
    """Crops side by side from a random azimuth on; in evaluation, one turn at one elevation. Angles are in degrees.

    Attributes:
        height: Rows of a crop.
        width: Its columns.
        batch_size: Crops in a batch.
        fovy_range: [low, high] of the vertical angle of view.
        elevation_range: [low, high] of each crop's elevation.
        overlap_range: [low, high] of the share of its angle that a crop has in common with the next.
        azimuth_range: [low, high] of where the row begins, at its first crop's edge.
        eval_height: Rows of an evaluation view.
        eval_width: Its columns.
        n_val_views: Views of the turn at validation.
        n_test_views: Views of the turn at the end.
        eval_fovy_deg: Vertical angle of view in evaluation.
        eval_elevation_deg: Elevation in evaluation.
    """

    height: int = 64
    width: int = 64
    batch_size: int = 8
    fovy_range: tuple[float, float] = (80, 100)
    elevation_range: tuple[float, float] = (-60, 60)
    overlap_range: tuple[float, float] = (0.5, 0.5)
    azimuth_range: tuple[float, float] = (0, 360)
    eval_height: int = 256
    eval_width: int = 256
    n_val_views: int = 4
    n_test_views: int = 120
    eval_fovy_deg: float = 75.0
    eval_elevation_deg: float = 0.0

    def __post_init__(self) -> None:
        check_at_least(self, 1, *SIZES)
        for name in RANGES:
            try:
                ranges: dict[str, Any] = {name: tuple(getattr(self, f"{name}_range"))}
                crops.RandomCrops(**ranges)
            except UserError as error:
                raise ConfigError(f"{name}_range", f"is refused: {error}") from None
        if not 0 < self.eval_fovy_deg < 180:
            raise ConfigError("eval_fovy_deg", f"must lie in (0, 180), not at {self.eval_fovy_deg}")
        if not -90 <= self.eval_elevation_deg <= 90:
            raise ConfigError("eval_elevation_deg", f"must lie in [-90, 90], not at {self.eval_elevation_deg}")


def crop_batch(views: dict[str, Tensor], height: int, width: int) -> dict[str, Any]:
    """Crops as a batch with the host's keys: cameras at the origin, with elevation and azimuth of their directions."""
    c2w = views["c2w"]
    ahead = -c2w[:, :3, 2]
    batch = camera_batch(c2w, views["fovy"], height, width, normalize=True)
    return {
        **batch,
        "light_positions": batch["camera_positions"],
        "elevation": torch.rad2deg(ahead[:, 2].clamp(-1, 1).asin()),
        "azimuth": torch.rad2deg(torch.atan2(ahead[:, 1], ahead[:, 0])),
        "camera_distances": c2w.new_zeros(len(c2w)),
        "height": height,
        "width": width,
    }


class TrainingCrops(TrainingViews):
    """Random crops, a batch for each step."""

    def __init__(self, cfg: Any) -> None:
        super().__init__(cfg)
        ranges = (tuple(getattr(cfg, f"{name}_range")) for name in RANGES)
        self.crops = crops.RandomCrops(cfg.batch_size, *ranges)

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Sets the step of the next draw, where the framework draws a step's batch after this call."""
        if DRAWN_ANEW:
            self.step = global_step

    def draw(self, step: int) -> dict[str, Any]:
        """The crops of a step."""
        views = self.crops(Generator().manual_seed(derive_seed(self.seed, step, "crops")))
        return crop_batch(views, self.cfg.height, self.cfg.width)


class TurningViews(ShownViews):
    """n_views views round the horizon from azimuth 0°, to the left, one at a time, with their index [1]."""

    def collate(self, indices: list[int]) -> dict[str, Any]:
        """The views of these indices."""
        index = torch.tensor(indices)
        elevation = torch.full((len(index),), float(self.cfg.eval_elevation_deg))
        views = crops.look(elevation, index * (360.0 / self.n_views), self.cfg.eval_fovy_deg)
        return {"index": index, **crop_batch(views, self.cfg.eval_height, self.cfg.eval_width)}


@register("pullback-panorama-datamodule")
class PanoramaDataModule(ViewsDataModule):
    """Random crops for training, and views all round for evaluation."""

    Config = PanoramaDataConfig
    training = TrainingCrops
    evaluation = TurningViews
