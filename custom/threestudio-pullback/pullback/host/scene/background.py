"""Backgrounds: the colour behind everything, by direction."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, check_at_least
from ..base import BaseModule
from ..config import config_path
from ..registry import register
from .encoding import get_encoding
from .networks import get_activation, get_mlp


class BaseBackground(BaseModule):
    """Colours by direction; a subclass gives `color`."""

    role = "background"

    @dataclass
    class Config(BaseModule.Config):
        n_output_dims: int = 3
        random_aug: bool = False  # in training, now and then one random colour per image instead
        random_aug_prob: float = 0.5

        def __post_init__(self) -> None:
            if not 0 <= self.random_aug_prob <= 1:
                raise ConfigError("random_aug_prob", f"must lie between 0 and 1, not {self.random_aug_prob}")

    def color(self, dirs: Tensor) -> Tensor:
        """Colours [..., n_output_dims] of unit directions [..., 3]."""
        raise NotImplementedError

    def forward(self, dirs: Tensor) -> Tensor:
        """Colours [B, H, W, n_output_dims] of unit directions [B, H, W, 3], or a random one per image."""
        if self.training and self.cfg.random_aug and random.random() < self.cfg.random_aug_prob:
            one = torch.rand(len(dirs), *[1] * (dirs.ndim - 2), self.cfg.n_output_dims).to(dirs)
            return one.expand(*dirs.shape[:-1], -1)
        return self.color(dirs)


@register("solid-color-background")
class SolidColorBackground(BaseBackground):
    """One colour everywhere, learned or not."""

    @dataclass
    class Config(BaseBackground.Config):
        color: Any = (1.0, 1.0, 1.0)
        learned: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            color = self.color if isinstance(self.color, Sequence) and not isinstance(self.color, str) else []
            if len(color) != self.n_output_dims or any(type(c) not in (int, float) for c in color):
                count = f"n_output_dims = {self.n_output_dims}"
                raise ConfigError("color", f"must have {count} numbers, not {self.color!r}")

    def configure(self) -> None:
        """Makes the colour a parameter, or a buffer where it is not learned."""
        color = torch.tensor([float(c) for c in self.cfg.color])
        if self.cfg.learned:
            self.env_color = nn.Parameter(color)
        else:
            self.register_buffer("env_color", color)

    def color(self, dirs: Tensor) -> Tensor:
        """The one colour [..., n_output_dims]."""
        return self.env_color.to(dirs).expand(*dirs.shape[:-1], -1)


@register("neural-environment-map-background")
class NeuralEnvironmentMapBackground(BaseBackground):
    """A small network of the encoded direction; with `eval_color`, that colour outside training."""

    @dataclass
    class Config(BaseBackground.Config):
        color_activation: str = "sigmoid"
        dir_encoding_config: dict = field(default_factory=lambda: {"otype": "SphericalHarmonics", "degree": 3})
        mlp_network_config: dict = field(
            default_factory=lambda: {"otype": "VanillaMLP", "activation": "ReLU", "n_neurons": 16, "n_hidden_layers": 2}
        )
        eval_color: tuple[float, float, float] | None = None

    def configure(self) -> None:
        """Builds encoding, network and activation."""
        cfg = self.cfg
        self.encoding = get_encoding(3, cfg.dir_encoding_config, config_path(cfg, "dir_encoding_config"))
        self.network = get_mlp(
            self.encoding.n_output_dims,
            cfg.n_output_dims,
            cfg.mlp_network_config,
            config_path(cfg, "mlp_network_config"),
        )
        self.color_activation = get_activation(cfg.color_activation, config_path(cfg, "color_activation"))

    def color(self, dirs: Tensor) -> Tensor:
        """Colours [..., n_output_dims] of unit directions [..., 3]."""
        if not self.training and self.cfg.eval_color is not None:
            return dirs.new_tensor(list(self.cfg.eval_color)).expand(*dirs.shape[:-1], -1)
        color = self.network(self.encoding((dirs.reshape(-1, 3) + 1) / 2))
        return self.color_activation(color).view(*dirs.shape[:-1], -1)


@register("textured-background")
class TexturedBackground(BaseBackground):
    """A learned picture round the scene: its rows follow the azimuth, its columns the angle to +z."""

    @dataclass
    class Config(BaseBackground.Config):
        height: int = 64
        width: int = 64
        color_activation: str = "sigmoid"

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(self, 1, "height", "width")

    def configure(self) -> None:
        """Draws the picture at random."""
        cfg = self.cfg
        self.texture = nn.Parameter(torch.randn(1, cfg.n_output_dims, cfg.height, cfg.width))
        self.color_activation = get_activation(cfg.color_activation, config_path(cfg, "color_activation"))

    def color(self, dirs: Tensor) -> Tensor:
        """Colours [..., n_output_dims] of unit directions [..., 3], interpolated in the picture."""
        x, y, z = dirs.reshape(-1, 3).unbind(-1)
        tilt = torch.atan2(torch.hypot(x, y), z) / math.pi * 2 - 1
        turn = torch.atan2(y, x) / math.pi
        places = torch.stack([tilt, turn], -1)[None, :, None]
        texels = F.grid_sample(self.texture, places, padding_mode="reflection", align_corners=False)
        return self.color_activation(texels[0, :, :, 0].T).view(*dirs.shape[:-1], -1)
