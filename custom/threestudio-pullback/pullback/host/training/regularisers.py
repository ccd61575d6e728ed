"""The further losses that threestudio's configs weigh by `loss.lambda_…`, of what a renderer returns in training.

Each is a function (out, options) -> scalar; formulas as in threestudio 0.2.3, sources where they are published.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import UserError

Out = dict[str, Any]


def orient(out: Out, options: dict[str, Any]) -> Tensor:
    """Normals that face away from the camera, by their weight (Verbin et al. 2022, "Ref-NeRF"; Poole et al. 2022)."""
    normal, weights = _needed(out, "normal", "orient", "normals"), out["weights"].detach()
    away = (normal * out["t_dirs"]).sum(-1, keepdim=True).clamp(min=0)
    return (weights * away.square()).sum() / (out["opacity"] > 0).sum().clamp(min=1)


def sparsity(out: Out, options: dict[str, Any]) -> Tensor:
    """Opacity, as √(α² + 0.01) (Poole et al. 2022)."""
    return (out["opacity"].square() + 0.01).sqrt().mean()


def opaque(out: Out, options: dict[str, Any]) -> Tensor:
    """Opacities between 0 and 1, by their entropy."""
    alpha = out["opacity"].clamp(1e-3, 1 - 1e-3)
    return -(alpha * alpha.log() + (1 - alpha) * (1 - alpha).log()).mean()


def z_variance(out: Out, options: dict[str, Any]) -> Tensor:
    """Spread of a ray's density along it, where it meets something (Zhu & Zhuang 2023, "HiFA"); 0 where none does."""
    opaque_rays = out["opacity"] > 0.5
    return (out["z_variance"] * opaque_rays).sum() / opaque_rays.sum().clamp(min=1)


def eikonal(out: Out, options: dict[str, Any]) -> Tensor:
    """Slopes of a signed distance other than 1 (Gropp et al. 2020)."""
    slope = _needed(out, "sdf_grad", "eikonal", "a signed distance")
    return (slope.norm(dim=-1) - 1).square().mean()


def convex(out: Out, options: dict[str, Any]) -> Tensor:
    """Hollows, on a coarse picture of the normals (Lukoianov et al. 2024): on a bump neighbours turn outwards."""
    normals = _needed(out, "comp_normal", "convex", "pictures of normals (system.renderer.return_comp_normal=true)")
    size = (options["convexity_res"],) * 2
    coarse = F.interpolate(normals.movedim(-1, 1), size, mode="bilinear", align_corners=False).movedim(1, -1)
    across = torch.linalg.cross(coarse[:, :, :-1], coarse[:, :, 1:])[..., 2]
    upwards = torch.linalg.cross(coarse[:, 1:], coarse[:, :-1])[..., 2]
    return -(across.mean() + upwards.mean())


def emptiness(out: Out, options: dict[str, Any]) -> Tensor:
    """log(1 + s w) of the samples' weights w (Wang et al. 2023, "Score Jacobian Chaining"); s is emptiness_scale."""
    return (1 + options["emptiness_scale"] * out["weights"]).log().mean()


def depth(out: Out, options: dict[str, Any]) -> Tensor:
    """±log |d|, d how much farther the middle of the picture is than its border; what is empty is 10 away.

    The idea is that of SJC's code. threestudio's has no | |, and is NaN when the middle is nearer, which is the goal.
    """
    far = (out["depth"] + 10 * (1 - out["opacity"]))[..., 0]
    _, height, width = far.shape
    rows, columns = (int(options["center_ratio"] * n) for n in (height, width))
    top, left = (height - rows) // 2, (height - columns) // 2
    middle = far[:, top : top + rows, left : left + columns]
    border = (far.sum() - middle.sum()) / (height * width - rows * columns)
    farther = middle.mean() - border + 1e-12
    return farther.sign() * farther.abs().log()


REGULARISERS: dict[str, Callable[[Out, dict[str, Any]], Tensor]] = {
    term.__name__: term for term in (orient, sparsity, opaque, z_variance, eikonal, convex, emptiness, depth)
}

PER_SAMPLE = ("orient", "eikonal", "convex", "emptiness")
"""Those that need what a renderer returns per sample, or normals."""


def _needed(out: Out, key: str, name: str, what: str) -> Tensor:
    if key not in out:
        raise UserError(f"`system.loss.lambda_{name}` needs {what}, which this scene does not render; set it to 0")
    return out[key]
