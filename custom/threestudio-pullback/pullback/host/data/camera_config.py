"""The config of `random-camera-datamodule`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ...errors import ConfigError, check_at_least
from ..config import config_to_primitive

LIGHT_STRATEGIES = ("dreamfusion", "magic3d")


def stages(value: Any) -> list[Any]:
    """A list of a config as it is; a single value as a list of one."""
    value = config_to_primitive(value)
    return list(value) if isinstance(value, (list, tuple)) else [value]


@dataclass
class RandomCameraConfig:
    """Ranges are [low, high]; angles are degrees, distances world units.

    height, width and batch_size are numbers, or lists with one entry more than resolution_milestones, which are the
    steps from which the next entry holds.
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
        for name in ("camera_distance_range", "fovy_range", "eval_camera_distance", "eval_fovy_deg"):
            if not (least := stages(getattr(self, name))[0]) > 0:
                raise ConfigError(name, f"must be above 0, not {least}")
        check_at_least(self, 0, "camera_perturb", "center_perturb", "up_perturb", "light_position_perturb")
        for name, value in (("fovy_range", self.fovy_range[1]), ("eval_fovy_deg", self.eval_fovy_deg)):
            if not value < 180:
                raise ConfigError(name, f"must be below 180 degrees, not {value}")
        if self.light_sample_strategy not in LIGHT_STRATEGIES:
            names = " or ".join(f"'{s}'" for s in LIGHT_STRATEGIES)
            raise ConfigError("light_sample_strategy", f"must be {names}, not '{self.light_sample_strategy}'")
