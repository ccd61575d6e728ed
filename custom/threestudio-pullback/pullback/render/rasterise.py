"""Triangles to pixels, differentiable, on a CPU and on CUDA: rasterise, interpolate, texture, antialias.

What goes in and what comes out is nvdiffrast's (Laine et al. 2020, "Modular Primitives for High-Performance
Differentiable Rendering"), whose conventions are OpenGL's: a position (x, y, z, w) in clip space is seen where x/w, y/w
and z/w are in [-1, 1], a smaller z/w is nearer, and row 0 is the lowest one, at y/w = -1. Both sides of a triangle are
seen. A pixel shows what lies at its centre; a centre on an edge that two triangles share belongs to one of them.

On a CPU a picture is the same to the bit with any number of threads; a gradient is, with the same number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserError
from .fused import attributes, raster, smoothing
from .fused.kernels.coverage import MOST_TRIANGLES


def rasterise(
    pos: Tensor, tri: Tensor, resolution: Sequence[int], ranges: Tensor | None = None, grad_db: bool = True
) -> tuple[Tensor, Tensor]:
    """What each pixel shows.

    Args:
        pos: Positions in clip space, float32: [N, V, 4], of N images of the same triangles; or [V, 4] with `ranges`.
        tri: [T, 3] int32, the corners of each triangle.
        resolution: Height and width in pixels.
        ranges: [N, 2] int32, the first triangle of each image and how many it has; only with positions [V, 4].
        grad_db: Whether the second result has gradients.

    Returns:
        [N, H, W, 4] both. (u, v, z/w, number of the triangle from 1 on), all 0 where nothing is: the point is u times
        the first corner, v times the second and 1 − u − v times the third, and u and v have gradients to the positions.
        And (∂u/∂x, ∂u/∂y, ∂v/∂x, ∂v/∂y), x and y in pixels.

    Raises:
        UserError: A shape, type or number that does not fit.
    """
    height, width = (int(n) for n in resolution)
    instanced = ranges is None
    if height < 1 or width < 1:
        raise UserError(f"the resolution is {height} × {width} pixels; give a height and a width of at least 1")
    _check("pos", pos, torch.float32, (None, None, 4) if instanced else (None, 4))
    _check("tri", tri, torch.int32, (None, 3))
    if len(tri) > MOST_TRIANGLES:
        raise UserError(f"there are {len(tri)} triangles; at most {MOST_TRIANGLES} can be told apart in a picture")
    if ranges is None:
        ranges, most = torch.tensor([[0, len(tri)]], dtype=torch.int32).expand(len(pos), 2), len(tri)
    else:
        _check("ranges", ranges, torch.int32, (None, 2))
        ranges, pos = ranges.cpu(), pos[None]
        if len(ranges) and (int(ranges.amin()) < 0 or int(ranges.sum(1).amax()) > len(tri)):
            raise UserError(f"`ranges` goes beyond the {len(tri)} triangles; a row is first triangle, count")
        most = int(ranges[:, 1].amax()) if len(ranges) else 0
    ranges = ranges.to(pos.device).contiguous()
    rast, slopes = raster.rasterise(pos.contiguous(), tri.contiguous(), ranges, instanced, most, height, width)
    return rast, slopes if grad_db else slopes.detach()


def interpolate(
    attr: Tensor,
    rast: Tensor,
    tri: Tensor,
    rast_db: Tensor | None = None,
    diff_attrs: Sequence[int] | Literal["all"] | None = None,
) -> tuple[Tensor, Tensor]:
    """Attributes of the corners at each pixel; 0 where nothing is.

    Args:
        attr: [N, V, A] or [1, V, A], or [V, A] for all images; float32.
        rast: [N, H, W, 4], the first result of `rasterise`.
        tri: [T, 3] int32.
        rast_db: [N, H, W, 4], the second result of `rasterise`; for the derivatives.
        diff_attrs: Attributes whose derivatives by the pixel are wanted, or `all`.

    Returns:
        [N, H, W, A], and (∂/∂x, ∂/∂y) of each wanted attribute, [N, H, W, 2·wanted].

    Raises:
        UserError: A shape or type that does not fit.
    """
    attr = attr[None] if attr.ndim == 2 else attr
    _check("attr", attr, torch.float32, (None, None, None))
    _check("rast", rast, torch.float32, (None, None, None, 4))
    _check("tri", tri, torch.int32, (None, 3))
    if len(attr) not in (1, len(rast)):
        raise UserError(f"`attr` is of {len(attr)} images and `rast` of {len(rast)}; give one, or as many")
    attr, rast, tri = attr.contiguous(), rast.contiguous(), tri.contiguous()
    values = attributes.interpolate(attr, rast, tri, 1.0)
    wanted = list(range(attr.shape[2])) if diff_attrs == "all" else [int(k) for k in diff_attrs or ()]
    if not wanted:
        return values, values.new_empty(*values.shape[:3], 0)
    if rast_db is None:
        raise UserError("`diff_attrs` asks for derivatives; give `rast_db`, the second result of rasterise")
    _check("rast_db", rast_db, torch.float32, tuple(rast.shape))
    chosen, number = attr[..., wanted].contiguous(), rast[..., 2:].detach()
    slopes = [
        attributes.interpolate(chosen, torch.cat([rast_db[..., axis::2], number], -1), tri, 0.0) for axis in range(2)
    ]
    return values, torch.stack(slopes, -1).flatten(3)


def opposite(tri: Tensor) -> Tensor:
    """Which corner is on the other side of each edge; `antialias` finds it, unless it is given.

    Args:
        tri: [T, 3] int32.

    Returns:
        [T, 3] int32: for the edge opposite each corner that of the neighbouring triangle, -1 where there is none. Of
        several the first triangle's counts.
    """
    _check("tri", tri, torch.int32, (None, 3))
    return smoothing.opposite(tri.contiguous())


def antialias(
    color: Tensor, rast: Tensor, pos: Tensor, tri: Tensor, others: Tensor | None = None, pos_gradient_boost: float = 1.0
) -> Tensor:
    """Smooths a picture at silhouettes, where it then depends on positions.

    An edge is of the silhouette where its two triangles face opposite ways or it has one alone, so triangles that meet
    must have the same vertices there.

    Args:
        color: [N, H, W, C], float32.
        rast: [N, H, W, 4], the first result of `rasterise`.
        pos: The positions that were rasterised, [N, V, 4] or [V, 4].
        tri: [T, 3] int32, the corners that were.
        others: `opposite(tri)`, where it is known.
        pos_gradient_boost: Factor of the positions' gradient.

    Returns:
        [N, H, W, C].

    Raises:
        UserError: A shape or type that does not fit.
    """
    instanced = pos.ndim == 3
    pos = pos if instanced else pos[None]
    _check("rast", rast, torch.float32, (None, None, None, 4))
    _check("color", color, torch.float32, (*rast.shape[:3], None))
    _check("pos", pos, torch.float32, (len(rast) if instanced else 1, None, 4))
    others = opposite(tri) if others is None else others
    _check("others", others, torch.int32, tuple(tri.shape))
    if pos_gradient_boost != 1:
        pos = pos.detach() + (pos - pos.detach()) * pos_gradient_boost
    inputs = color.contiguous(), rast.detach().contiguous(), pos.contiguous(), tri.contiguous(), others.contiguous()
    return smoothing.antialias(*inputs, instanced)[0]


def _check(name: str, x: Tensor, dtype: torch.dtype, shape: tuple[int | None, ...]) -> None:
    """Raises UserError where a tensor is not of this type and shape; None stands for any size."""
    fits = x.ndim == len(shape) and all(n in (None, m) for n, m in zip(shape, x.shape, strict=True))
    if not fits or x.dtype != dtype:
        wanted = ", ".join("·" if n is None else str(n) for n in shape)
        raise UserError(f"`{name}` is {list(x.shape)} {x.dtype}; it should be [{wanted}] {dtype}")
