"""Materials: from features, normals and lights to colours."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, UserError
from ..base import BaseModule
from ..config import config_path
from ..registry import register
from .networks import get_activation, get_mlp


class BaseMaterial(BaseModule):
    """forward(features [N, F], …) → colours [N, C]; export(features) → {"albedo": [N, 3] in [0, 1]}."""

    role = "material"

    requires_normal: bool = False
    requires_tangent: bool = False

    def export(self, features: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """The colours a mesh carries."""
        return {}


@register("no-material")
class NoMaterial(BaseMaterial):
    """The features are the colours, after an activation and, with mlp_network_config, a network."""

    @dataclass
    class Config(BaseMaterial.Config):
        n_output_dims: int = 3
        color_activation: str = "sigmoid"
        input_feature_dims: int | None = None
        mlp_network_config: Any = None
        requires_normal: bool = False

        def __post_init__(self) -> None:
            if (self.input_feature_dims is None) != (self.mlp_network_config is None):
                raise ConfigError("input_feature_dims", "must be given together with mlp_network_config")

    def configure(self) -> None:
        """Builds the activation and, with mlp_network_config, the network."""
        cfg = self.cfg
        self.requires_normal = cfg.requires_normal
        self.color_activation = get_activation(cfg.color_activation, config_path(cfg, "color_activation"))
        self.network = None
        if cfg.mlp_network_config is not None:
            path = config_path(cfg, "mlp_network_config")
            self.network = get_mlp(cfg.input_feature_dims, cfg.n_output_dims, cfg.mlp_network_config, path)

    @property
    def plain_activation(self) -> str | None:
        """The name of the activation where the colours are three features after it; None where they are not."""
        cfg = self.cfg
        name = "none" if cfg.color_activation in (None, "linear") else str(cfg.color_activation).lower()
        return name if self.network is None and cfg.n_output_dims == 3 else None

    def forward(self, features: Tensor, **kwargs: Any) -> Tensor:
        """Colours [N, n_output_dims] of features [N, F]; raises UserError where the numbers do not fit."""
        color = features if self.network is None else self.network(features)
        if color.shape[-1] != self.cfg.n_output_dims:
            path = config_path(self.cfg, "n_output_dims")
            raise UserError(
                f"`{path}` is {self.cfg.n_output_dims}, but the geometry gives {color.shape[-1]} features; "
                "make the two equal"
            )
        return self.color_activation(color)

    def export(self, features: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """Colours [..., 3] in [0, 1] as `albedo`; raises UserError where the material has fewer than 3."""
        color = self(features).clamp(0, 1)
        if color.shape[-1] < 3:
            path = config_path(self.cfg, "n_output_dims")
            raise UserError(f"`{path}` is {color.shape[-1]}, but a mesh's colours need 3")
        return {"albedo": color[..., :3]}


@register("diffuse-with-point-light-material")
class DiffuseWithPointLightMaterial(BaseMaterial):
    """Lambertian shading under a point light and an ambient light (Poole et al. 2022, section 3.1).

    colour = albedo · (ambient + diffuse · max(0, n · l)), l the unit vector towards the light. In training,
    the whole batch shows either the albedo alone ("albedo"; always before `ambient_only_steps`), the light on
    white ("textureless") or both ("diffuse"), drawn with `diffuse_prob` and `textureless_prob`.
    """

    @dataclass
    class Config(BaseMaterial.Config):
        ambient_light_color: tuple[float, float, float] = (0.1, 0.1, 0.1)
        diffuse_light_color: tuple[float, float, float] = (0.9, 0.9, 0.9)
        ambient_only_steps: int = 1000
        diffuse_prob: float = 0.75
        textureless_prob: float = 0.5
        albedo_activation: str = "sigmoid"
        soft_shading: bool = False  # in training, a random share of ambient light
        ambient_only_on_test: bool = False

        def __post_init__(self) -> None:
            for name in ("diffuse_prob", "textureless_prob"):
                if not 0 <= getattr(self, name) <= 1:
                    raise ConfigError(name, f"must lie between 0 and 1, not {getattr(self, name)}")

    requires_normal = True
    ambient_light_color: Tensor
    diffuse_light_color: Tensor

    def configure(self) -> None:
        """Makes the lights' colours buffers, and the activation."""
        cfg = self.cfg
        self.register_buffer("ambient_light_color", torch.tensor([float(c) for c in cfg.ambient_light_color]))
        self.register_buffer("diffuse_light_color", torch.tensor([float(c) for c in cfg.diffuse_light_color]))
        self.albedo_activation = get_activation(cfg.albedo_activation, config_path(cfg, "albedo_activation"))
        self.ambient_only = False

    def forward(
        self,
        features: Tensor,
        positions: Tensor,
        shading_normal: Tensor,
        light_positions: Tensor,
        ambient_ratio: float | None = None,
        shading: str | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Colours [N, 3].

        Args:
            features: [N, ≥3], the first three make the albedo.
            positions: [N, 3], world units.
            shading_normal: [N, 3], unit vectors.
            light_positions: [N, 3], world units.
            ambient_ratio: ambient light of this strength and point light of 1 minus it, instead of the
                config's.
            shading: "albedo", "textureless" or "diffuse", instead of what training or evaluation chooses.
            kwargs: not used; what else the renderer has.

        Raises:
            ValueError: unknown shading.
        """
        albedo = self.albedo_activation(features[..., :3])
        shading = shading or self._choose_shading()
        if shading == "albedo":
            return albedo
        if shading not in ("textureless", "diffuse"):
            raise ConfigError("shading", f"is 'albedo', 'textureless' or 'diffuse', not {shading!r}")
        ambient, diffuse = self.ambient_light_color, self.diffuse_light_color
        if ambient_ratio is None and self.training and self.cfg.soft_shading:
            ambient_ratio = 1 - random.random()
        if ambient_ratio is not None:
            ambient = torch.full_like(ambient, ambient_ratio)
            diffuse = 1 - ambient
        to_light = F.normalize(light_positions - positions, dim=-1)
        light = ambient + diffuse * (shading_normal * to_light).sum(-1, keepdim=True).clamp(min=0)
        return light if shading == "textureless" else albedo.clamp(0, 1) * light

    def _choose_shading(self) -> str:
        if not self.training:
            return "albedo" if self.ambient_only or self.cfg.ambient_only_on_test else "diffuse"
        if self.ambient_only or random.random() > self.cfg.diffuse_prob:
            return "albedo"
        return "textureless" if random.random() < self.cfg.textureless_prob else "diffuse"

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Notes whether this step lies before `ambient_only_steps`."""
        self.ambient_only = global_step < self.cfg.ambient_only_steps

    def export(self, features: Tensor, **kwargs: Any) -> dict[str, Tensor]:
        """The albedo [..., 3] in [0, 1]."""
        return {"albedo": self.albedo_activation(features[..., :3]).clamp(0, 1)}
