"""`random-camera-datamodule`: random cameras round the origin to train with, a turntable to look at.

The conventions are those of views/cameras.py. Angles are degrees, except that fovy, the vertical field of view, is
radians in batches.
"""

from __future__ import annotations

import bisect
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ...seeding import derive_seed
from ...views.cameras import camera_batch, look_at, on_sphere, orbit
from ..config import parse_structured
from ..registry import register
from .camera_config import RandomCameraConfig, stages
from .datamodule import ShownViews, TrainingViews, ViewsDataModule


class RandomCameras(TrainingViews):
    """Random cameras, a batch for each step."""

    def draw(self, step: int) -> dict[str, Any]:
        """The cameras of a step.

        Returns:
            rays_o, rays_d [B,H,W,3], mvp_mtx, proj_mtx, c2w [B,4,4], camera_positions, light_positions [B,3],
            elevation, azimuth [B] in degrees and camera_distances [B], all three before the perturbations,
            fovy [B] in radians, height, width.
        """
        cfg, updates = self.cfg, step * self.updates
        stage = bisect.bisect_right(cfg.resolution_milestones, updates)
        height, width, n = (stages(v)[min(stage, len(stages(v)) - 1)] for v in (cfg.height, cfg.width, cfg.batch_size))
        random = _Draws(n, Generator().manual_seed(derive_seed(self.seed, step, "cameras")))
        widened = min(1.0, updates / (cfg.progressive_until + 1)) if cfg.progressive_until > 0 else 1.0
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


class TurntableCameras(ShownViews):
    """n_views cameras round the origin, azimuth 0° to 360° without the end; each lit from where it stands."""

    def __init__(self, cfg: Any, n_views: int) -> None:
        super().__init__(cfg, n_views)
        self.azimuth = torch.arange(n_views) * (360 / n_views)
        self.elevation = torch.full_like(self.azimuth, cfg.eval_elevation_deg)
        self.distance = torch.full_like(self.azimuth, cfg.eval_camera_distance)
        self.c2w = orbit(self.elevation, self.azimuth, self.distance)

    def collate(self, indices: list[int]) -> dict[str, Any]:
        """The cameras of these indices as one batch, with the keys of `RandomCameras.draw` and `index` [B]."""
        cfg, index = self.cfg, torch.tensor(indices)
        fovy = torch.deg2rad(torch.full((len(index),), float(cfg.eval_fovy_deg)))
        batch = camera_batch(self.c2w[index], fovy, cfg.eval_height, cfg.eval_width, cfg.rays_d_normalize)
        return {
            "index": index,
            **batch,
            "light_positions": batch["camera_positions"],
            "elevation": self.elevation[index],
            "azimuth": self.azimuth[index],
            "camera_distances": self.distance[index],
            "height": cfg.eval_height,
            "width": cfg.eval_width,
        }


@register("random-camera-datamodule")
class RandomCameraDataModule(ViewsDataModule):
    """Random cameras to train with; n_val_views and n_test_views of a turntable to look at."""

    Config = RandomCameraConfig
    parse = staticmethod(parse_structured)
    training = RandomCameras
    evaluation = TurntableCameras
