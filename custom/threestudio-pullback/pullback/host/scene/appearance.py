"""The colour of a density field's surface, as volume rendering shows it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_OUTSIDE, _INSIDE, _SAMPLES = 0.1, 0.2, 32  # of a ray, in units of the geometry's radius
_POINTS = 2**16  # at a time
_VISIBLE = 1e-3  # weight of a sample below which its colour is not asked for


@torch.no_grad()
def surface_colours(geometry: Any, material: Any, points: Tensor, normals: Tensor) -> Tensor | None:
    """What a camera sees that looks at each point straight on, the background left out.

    Of a density field, the colour is that of emission and absorption along a ray against the normal, which starts a
    tenth of the radius outside the point, divided by the ray's opacity. Outside of the point, only what thickens
    towards it counts, so that nothing that stands before it hides it. Of another geometry, it is the colour there.

    Args:
        geometry: The part of the config; with `radius`.
        material: Its `export` gives the `albedo` of the geometry's features.
        points: [N, 3] in world units.
        normals: [N, 3], unit vectors outwards.

    Returns:
        [N, 3] in [0, 1], or None where the material has no colours.
    """
    if not hasattr(geometry, "forward_density"):
        return material.export(**geometry.export(points)).get("albedo")
    radius = geometry.cfg.radius
    edges = torch.linspace(-_OUTSIDE * radius, _INSIDE * radius, _SAMPLES + 1, device=points.device)
    middle, step = (edges[1:] + edges[:-1]) / 2, float(edges[1] - edges[0])
    before = int((middle < 0).sum())
    found = []
    for p, n in zip(points.split(_POINTS // _SAMPLES), normals.split(_POINTS // _SAMPLES), strict=True):
        along = p[:, None] - middle[:, None] * n[:, None]
        density = geometry.forward_density(along)[..., 0]
        density[:, :before] = density[:, :before].flip(1).cummin(1).values.flip(1)
        depth = density.cumsum(1) * step
        light = torch.exp(-torch.cat([torch.zeros_like(depth[:, :1]), depth], 1))
        # where there is nothing at all, any sample is as good as another
        weight = light[:, :-1] - light[:, 1:] + 1e-9
        weight = weight / weight.sum(1, keepdim=True)
        shown = weight > _VISIBLE
        albedo = material.export(**geometry.export(along[shown])).get("albedo")
        if albedo is None:
            return None
        ray = shown.nonzero()[:, 0]
        kept = weight[shown][:, None]
        total = torch.zeros_like(p).index_add_(0, ray, kept * albedo)
        found.append(total / torch.zeros_like(p).index_add_(0, ray, kept.expand_as(albedo)))
    return torch.cat(found)
