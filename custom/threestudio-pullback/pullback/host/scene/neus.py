"""`neus-volume-renderer`: pictures of a signed distance by volume rendering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import check_at_least
from ...render.samples import DenseSamples, PackedSamples
from ..registry import register
from .renderer import NeRFVolumeRenderer

SMALL = 1e-5  # beside p and c, so that deep inside α is 1


class LearnedVariance(nn.Module):
    """1/std of the logistic density round the surface, exp(10·x); x is the parameter, and 0.3 the usual start."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self._inv_std = nn.Parameter(torch.tensor(float(start)))

    @property
    def inv_std(self) -> Tensor:
        """A scalar."""
        return (10 * self._inv_std).exp()


@register("neus-volume-renderer")
class NeuSVolumeRenderer(NeRFVolumeRenderer):
    """The opacities of NeuS (Wang et al. 2021, 3.1), or with use_volsdf the density of VolSDF (Yariv et al. 2021).

    Samples and pruning are those of `nerf-volume-renderer`. In NeuS the opacity of an interval is the share by which
    Φ(s·f) falls along it, f the signed distance at its ends, as the normal at its middle has it, Φ the logistic
    function and s the learned 1/std. `cos_anneal_end_steps`: until then a surface is seen from behind too.
    """

    needs = "neus-volume-renderer", "forward_sdf", "a signed distance", "implicit-sdf"

    @dataclass
    class Config(NeRFVolumeRenderer.Config):
        learned_variance_init: float = 0.3
        cos_anneal_end_steps: int = 0
        use_volsdf: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(self, 0, "cos_anneal_end_steps")

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Takes the scene; raises UserError where the geometry has no signed distance."""
        super().configure(geometry, material, background)
        self.variance = LearnedVariance(self.cfg.learned_variance_init)
        self.cos_anneal_ratio = 1.0

    @property
    def _needs_normal(self) -> bool:
        return not self.cfg.use_volsdf or super()._needs_normal

    def _density(self, points: Tensor) -> Tensor:
        """What a ray straight on would find, for pruning [N, 1]."""
        sdf, step = self.geometry.forward_sdf(points), self.render_step_size
        return self._volsdf(sdf) if self.cfg.use_volsdf else _thickness(self._alpha(sdf, -step / 2)) / step

    def _weights(self, samples: DenseSamples | PackedSamples, field: dict[str, Tensor], directions: Tensor) -> Tensor:
        sdf, dt = field["sdf"], samples.dt[:, None]
        if self.cfg.use_volsdf:
            return samples.weights(self._volsdf(sdf)[:, 0])
        cos, ratio = (directions * field["normal"]).sum(-1, keepdim=True), self.cos_anneal_ratio
        falling = -(F.relu(0.5 - 0.5 * cos) * (1 - ratio) + F.relu(-cos) * ratio)
        thickness = _thickness(self._alpha(sdf, falling * dt / 2))
        return samples.weights((thickness / dt.clamp(min=torch.finfo(dt.dtype).tiny))[:, 0])

    def _alpha(self, sdf: Tensor, half: Tensor | float) -> Tensor:
        """The opacity where the signed distance goes from sdf − half to sdf + half."""
        inv_std = self.variance.inv_std.clamp(1e-6, 1e6)
        before, after = torch.sigmoid((sdf - half) * inv_std), torch.sigmoid((sdf + half) * inv_std)
        return ((before - after + SMALL) / (before + SMALL)).clamp(0, 1)

    def _volsdf(self, sdf: Tensor) -> Tensor:
        """1/β times the distribution function of a Laplace law of scale β at −sdf; 1/β at most 80."""
        inv_std = self.variance.inv_std.clamp(0.0, 80.0)
        return inv_std * (0.5 + 0.5 * sdf.sign() * torch.expm1(-sdf.abs() * inv_std))

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Updates the occupancy grid in training, and how far surfaces are seen from behind."""
        end = self.cfg.cos_anneal_end_steps
        self.cos_anneal_ratio = 1.0 if end == 0 else min(1.0, global_step / end)
        super().update_step(epoch, global_step, on_load_weights)


def _thickness(alpha: Tensor) -> Tensor:
    """−log(1 − α), of α below 1."""
    return -torch.log1p(-alpha.clamp(max=1 - 1e-6))
