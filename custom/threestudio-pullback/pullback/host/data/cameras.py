"""`random-camera-datamodule`: random cameras round the origin to train with, a turntable to look at.

Conventions as in `viewing`. Angles are degrees, but fovy, the vertical field of view, is radians in batches.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from ...errors import ConfigError, check_at_least
from ...seeding import derive_seed
from ...views.cameras import camera_batch, look_at, on_sphere, orbit
from ..base import Updateable
from ..config import config_to_primitive, parse_structured
from ..registry import register

LIGHT_STRATEGIES = ("dreamfusion", "magic3d")


def stages(value: Any) -> list[Any]:
    """height, width or batch_size as a list, one entry per stage of the training."""
    value = config_to_primitive(value)
    return list(value) if isinstance(value, (list, tuple)) else [value]


@dataclass
class RandomCameraConfig:
    """Ranges are [low, high]; angles are degrees, distances world units.

    height, width and batch_size are numbers, or lists with one entry more than resolution_milestones, the
    steps at which the next entry comes into force.
    """

    height: Any = 64
    width: Any = 64
    batch_size: Any = 1
    resolution_milestones: list[int] = field(default_factory=list)
    eval_height: int = 512
    eval_width: int = 512
    eval_batch_size: int = 1  # threestudio's key; evaluation shows one camera at a time
    n_val_views: int = 1
    n_test_views: int = 120
    elevation_range: tuple[float, float] = (-10, 90)
    azimuth_range: tuple[float, float] = (-180, 180)
    camera_distance_range: tuple[float, float] = (1, 1.5)
    fovy_range: tuple[float, float] = (40, 70)
    camera_perturb: float = 0.1  # half the width of a uniform shift of the camera
    center_perturb: float = 0.2  # standard deviation of the point looked at
    up_perturb: float = 0.02  # standard deviation of the up vector
    light_position_perturb: float = 1.0  # standard deviation round the camera, "dreamfusion"
    light_distance_range: tuple[float, float] = (0.8, 1.5)
    eval_elevation_deg: float = 15.0
    eval_camera_distance: float = 1.5
    eval_fovy_deg: float = 70.0
    light_sample_strategy: str = "dreamfusion"
    batch_uniform_azimuth: bool = True  # one camera in each of batch_size equal parts of the azimuth range
    progressive_until: int = 0  # steps over which elevation and azimuth widen from the evaluation's camera
    rays_d_normalize: bool = True

    def __post_init__(self) -> None:
        for name in ("height", "width", "batch_size"):
            if any(not isinstance(v, int) or v < 1 for v in stages(getattr(self, name))):
                raise ConfigError(name, "must be a whole number of at least 1, or a list of them")
            if len(stages(getattr(self, name))) not in (1, len(self.resolution_milestones) + 1):
                raise ConfigError(
                    name,
                    f"has {len(stages(getattr(self, name)))} entries, but resolution_milestones has "
                    f"{len(self.resolution_milestones)}: give one entry more than there are milestones",
                )
        check_at_least(self, 1, "eval_height", "eval_width", "eval_batch_size", "n_val_views", "n_test_views")
        limits = {
            "elevation_range": (-90, 90),
            "azimuth_range": (-math.inf, math.inf),
            "camera_distance_range": (0, math.inf),
            "fovy_range": (0, 180),
            "light_distance_range": (0, math.inf),
        }
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                bounds = f" within {least} and {most}" if math.isfinite(most) else ""
                raise ConfigError(name, f"must be [low, high] with low ≤ high{bounds}, not [{low}, {high}]")
        positive = {
            "camera_distance_range": self.camera_distance_range[0],
            "fovy_range": self.fovy_range[0],
            "eval_camera_distance": self.eval_camera_distance,
            "eval_fovy_deg": self.eval_fovy_deg,
        }
        for name, value in positive.items():
            if not value > 0:
                raise ConfigError(name, f"must be above 0, not {value}")
        check_at_least(self, 0, "camera_perturb", "center_perturb", "up_perturb", "light_position_perturb")
        for name, value in (("fovy_range", self.fovy_range[1]), ("eval_fovy_deg", self.eval_fovy_deg)):
            if not value < 180:
                raise ConfigError(name, f"must be below 180 degrees, not {value}")
        if self.light_sample_strategy not in LIGHT_STRATEGIES:
            known = " or ".join(f"'{s}'" for s in LIGHT_STRATEGIES)
            raise ConfigError("light_sample_strategy", f"must be {known}, not '{self.light_sample_strategy}'")


class RandomCameras(IterableDataset, Updateable):
    """Training batches without end. Batch k depends on (seed, k) alone, whatever was drawn before it.

    `seed` is the run's seed; `step` is the index of the next batch, which drawing one moves on.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self.cfg = cfg
        self.seed, self.step = torch.initial_seed(), 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            yield {}

    def collate(self, _: Any) -> dict[str, Any]:
        """The batch of the present step: see `draw`."""
        batch = self.draw(self.step)
        self.step += 1
        return batch

    def draw(self, step: int) -> dict[str, Any]:
        """The cameras of a step.

        Returns:
            rays_o, rays_d [B,H,W,3], mvp_mtx, proj_mtx, c2w [B,4,4], camera_positions, light_positions [B,3],
            elevation, azimuth [B] in degrees and camera_distances [B], all three before the perturbations,
            fovy [B] in radians, height, width.
        """
        cfg, stage = self.cfg, bisect.bisect_right(self.cfg.resolution_milestones, step)
        height, width, n = (stages(v)[min(stage, len(stages(v)) - 1)] for v in (cfg.height, cfg.width, cfg.batch_size))
        random = _Draws(n, Generator().manual_seed(derive_seed(self.seed, step, "cameras")))
        widened = min(1.0, step / (cfg.progressive_until + 1)) if cfg.progressive_until > 0 else 1.0
        elevation = _elevation(random, [_mix(cfg.eval_elevation_deg, e, widened) for e in cfg.elevation_range])
        low, high = (_mix(0.0, a, widened) for a in cfg.azimuth_range)
        share = random.uniform(0, 1)
        if cfg.batch_uniform_azimuth:
            share = (share + torch.arange(n)) / n
        azimuth = low + share * (high - low)
        distance = random.uniform(*cfg.camera_distance_range)
        shift = cfg.camera_perturb * (2 * torch.rand(n, 3, generator=random.generator) - 1)
        position = on_sphere(elevation, azimuth, distance) + shift
        center = random.normal(cfg.center_perturb)
        up = torch.tensor([0.0, 0.0, 1.0]) + random.normal(cfg.up_perturb)
        fovy = torch.deg2rad(random.uniform(*cfg.fovy_range))
        lights = _lights(cfg, random, position)
        batch = camera_batch(look_at(position, center, up), fovy, height, width, cfg.rays_d_normalize)
        return {
            **batch,
            "light_positions": lights,
            "elevation": elevation,
            "azimuth": azimuth,
            "camera_distances": distance,
            "height": height,
            "width": width,
        }


class _Draws:
    """Random numbers for n cameras from one generator."""

    def __init__(self, n: int, generator: Generator) -> None:
        self.n, self.generator = n, generator

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.n, generator=self.generator)

    def normal(self, std: float) -> Tensor:
        return std * torch.randn(self.n, 3, generator=self.generator)


def _mix(a: float, b: float, t: float) -> float:
    return (1 - t) * a + t * b


def _elevation(random: _Draws, bounds: list[float]) -> Tensor:
    """[B] degrees, uniform in angle, which favours the poles, or on the sphere; one of them per batch."""
    if float(torch.rand((), generator=random.generator)) < 0.5:
        return random.uniform(*bounds)
    low, high = (math.sin(math.radians(b)) for b in bounds)
    return torch.rad2deg(torch.asin(random.uniform(low, high).clamp(-1, 1)))


def _lights(cfg: Any, random: _Draws, position: Tensor) -> Tensor:
    """Positions [B, 3] of the lights.

    "dreamfusion": in a direction scattered round the camera's (Poole et al. 2022). "magic3d": at most 60°
    away from the camera's direction (Lin et al. 2023).
    """
    distance = random.uniform(*cfg.light_distance_range)
    if cfg.light_sample_strategy == "dreamfusion":
        return distance[:, None] * F.normalize(position + random.normal(cfg.light_position_perturb), dim=-1)
    local = on_sphere(random.uniform(30, 90), random.uniform(-180, 180), distance)
    # a frame whose third axis points to the camera
    frame = look_at(position, torch.zeros_like(position), torch.tensor([0.0, 0.0, 1.0]))[:, :3, :3]
    return (frame @ local[:, :, None])[..., 0]


class TurntableCameras(Dataset):
    """n_views cameras round the origin, azimuth 0° to 360° without the end; each lit from where it stands."""

    def __init__(self, cfg: Any, n_views: int) -> None:
        super().__init__()
        self.cfg = cfg
        azimuth = torch.arange(n_views) * (360 / n_views)
        elevation = torch.full_like(azimuth, cfg.eval_elevation_deg)
        distance = torch.full_like(azimuth, cfg.eval_camera_distance)
        self.c2w = orbit(elevation, azimuth, distance)
        self.elevation, self.azimuth, self.distance = elevation, azimuth, distance

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, index: int) -> dict[str, Any]:
        cfg, one = self.cfg, slice(index, index + 1)
        fovy = torch.deg2rad(torch.tensor([float(cfg.eval_fovy_deg)]))
        batch = camera_batch(self.c2w[one], fovy, cfg.eval_height, cfg.eval_width, cfg.rays_d_normalize)
        batch |= {
            "light_positions": batch["camera_positions"],
            "elevation": self.elevation[one],
            "azimuth": self.azimuth[one],
            "camera_distances": self.distance[one],
        }
        return {"index": index, **{k: v[0] for k, v in batch.items()}}

    def collate(self, views: list[dict[str, Any]]) -> dict[str, Any]:
        """Views as one batch: as in training, and index [B]."""
        return {**default_collate(views), "height": self.cfg.eval_height, "width": self.cfg.eval_width}


@register("random-camera-datamodule")
class RandomCameraDataModule(pl.LightningDataModule):
    """Random cameras to train with; n_val_views and n_test_views of a turntable to look at."""

    Config = RandomCameraConfig

    def __init__(self, cfg: Any = None) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)

    def setup(self, stage: str | None = None) -> None:
        if stage in (None, "fit"):
            self.train_dataset = RandomCameras(self.cfg)
        if stage in (None, "fit", "validate"):
            self.val_dataset = TurntableCameras(self.cfg, self.cfg.n_val_views)
        if stage in (None, "test", "predict"):
            self.test_dataset = TurntableCameras(self.cfg, self.cfg.n_test_views)

    def train_dataloader(self) -> DataLoader:
        if self.trainer is not None:  # by now a checkpoint's counters are restored
            self.train_dataset.step = self.trainer.global_step * self.trainer.accumulate_grad_batches
        return DataLoader(self.train_dataset, batch_size=None, num_workers=0, collate_fn=self.train_dataset.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val_dataset, batch_size=1, collate_fn=self.val_dataset.collate)

    def test_dataloader(self) -> DataLoader:
        return DataLoader(self.test_dataset, batch_size=1, collate_fn=self.test_dataset.collate)

    def predict_dataloader(self) -> DataLoader:
        return self.test_dataloader()
