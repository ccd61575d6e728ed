"""`pullback-gradient-background`: a fixed backdrop that is linear in the direction of the ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pullback.errors import ConfigError
from torch import Tensor

from ._framework import BaseModule, register


@register("pullback-gradient-background")
class GradientBackground(BaseModule):
    """colour(d) = clamp(base + x·gradient_x + y·gradient_y + z·gradient_z, 0, 1), d the ray's unit direction.

    A prompt describes the view by a word at most. A backdrop that differs from side to side shows the denoiser the
    camera's direction, and the views then agree on one pose of the object. It has no parameters.
    """

    role = "background"

    @dataclass
    class Config(BaseModule.Config):
        base: Any = field(default_factory=lambda: [0.7, 0.7, 0.7])
        gradient_x: Any = field(default_factory=lambda: [0.0, 0.0, 0.0])
        gradient_y: Any = field(default_factory=lambda: [0.0, 0.0, 0.0])
        gradient_z: Any = field(default_factory=lambda: [0.0, 0.0, 0.0])

        def __post_init__(self) -> None:
            for name in ("base", "gradient_x", "gradient_y", "gradient_z"):
                rgb = getattr(self, name)
                numbers = isinstance(rgb, Sequence) and all(isinstance(v, (int, float)) for v in rgb)
                if not numbers or len(rgb) != 3:
                    raise ConfigError(name, f"must be a list of three numbers, red, green and blue, not {rgb!r}")

    cfg: Config

    def configure(self) -> None:
        """Keeps the four colours as one matrix."""
        rows = [self.cfg.gradient_x, self.cfg.gradient_y, self.cfg.gradient_z, self.cfg.base]
        self.coefficients: Tensor
        self.register_buffer("coefficients", torch.tensor([[float(v) for v in r] for r in rows]), persistent=False)

    def forward(self, dirs: Tensor) -> Tensor:
        """Ray directions [...,3] (unit length) → colours [...,3] in [0,1]."""
        m = self.coefficients.to(dirs)
        return (dirs @ m[:3] + m[3]).clamp(0, 1)
