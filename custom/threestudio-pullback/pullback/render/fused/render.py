"""Pictures of a field by the fused kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..field import COLOURS, DENSITIES, Corner, Field
from .operators import Medium, march

AT_ONCE = 2**21
"""Samples of a call on CUDA where no gradient is needed, which there are kept all the same: at most 320 MB of them."""


def render(
    field: Field,
    colours: str,
    origins: Tensor,
    directions: Tensor,
    offset: Tensor,
    box: tuple[Corner, Corner],
    near: float,
    far: float,
    count: int,
    stop: float,
    occupied: Tensor | None = None,
    least: Tensor | None = None,
) -> Tensor:
    """Colour, opacity, depth and the spread of the depth of rays; differentiable once, in the field's tensors.

    Args:
        field: What is rendered.
        colours: Activation of the colours, one of COLOURS.
        origins: [R, 3], float32, world units.
        directions: [R, 3], unit vectors.
        offset: [R], in [0, 1): where the samples of a ray lie in their intervals.
        box: Lower and upper corner, world units; outside nothing is seen.
        near: Where the part of a ray that counts begins.
        far: Where it ends.
        count: Samples of a ray.
        stop: Samples that less light reaches are left out; 0 for none.
        occupied: [n, n, n] bool, the cells of the box that are not empty; all if None.
        least: Scalar; samples of a lower opacity are left out.

    Returns:
        [R, 6].
    """
    limits = near, far, count, stop
    numbers = field.bias, field.blob, field.scale, field.std
    medium = Medium(
        *box,
        *(field.box or box),
        *limits,
        *numbers,
        DENSITIES.index(field.activation),
        COLOURS.index(colours),  # type: ignore[arg-type]
    )
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in field.tensors)
    if occupied is None:
        occupied = torch.empty(0, 0, 0, dtype=torch.bool, device=origins.device)
    least = offset.new_empty(0) if least is None else least.to(offset).view(1)
    rays = *(x if x.stride(-1) == 1 else x.contiguous() for x in (origins, directions)), offset
    size = max(1, len(origins) if keep or origins.device.type == "cpu" else AT_ONCE // count)
    parts = zip(*(x.split(size) for x in rays), strict=True)
    sums = [
        march(field.kind, field.tensors, field.settings, *part, occupied, least, medium.pack(), keep)[0]
        for part in parts
    ]
    return sums[0] if len(sums) == 1 else torch.cat(sums)
