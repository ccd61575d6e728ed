"""Textures and cube maps, differentiable, on a CPU and on CUDA; as in nvdiffrast, see `rasterise`.

(s, t) = (0, 0) is the outer corner of the first texel of the first row, which is the lowest one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import UserError
from .fused import sampling

BOUNDARIES = ("wrap", "clamp", "zero", "cube")
"""What is beyond a texture's border: itself again, its last texels, zeros; or the next face of a cube map."""
FILTERS = ("auto", "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")
"""Ways to mix texels."""


def texture(
    tex: Tensor,
    uv: Tensor,
    uv_da: Tensor | None = None,
    mip_level_bias: Tensor | None = None,
    mip: Sequence[Tensor] | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> Tensor:
    """What a texture shows at places.

    Args:
        tex: [N or 1, rows, columns, C] float32; a cube map's [N or 1, 6, side, side, C], its faces +x, −x, +y, −y, +z,
            −z, with OpenGL's orientation.
        uv: [N, H, W, 2]; for a cube map directions [N, H, W, 3] of any length, float32.
        uv_da: [N, H, W, 4 or 6], (∂/∂x, ∂/∂y) of each of them by the pixel; with mipmaps.
        mip_level_bias: [N, H, W], added to the level; the level itself if `uv_da` is None.
        mip: Smaller textures, see `construct_mip`; made of `tex` if None.
        filter_mode: One of FILTERS. The mipmap modes take the level whose texels are as wide as the longer axis of a
            pixel's footprint: `linear` between two levels, or `nearest` the finer one. `auto` is linear-mipmap-linear
            if there is `uv_da` or `mip_level_bias`, else linear.
        boundary_mode: One of BOUNDARIES.
        max_mip_level: Largest level; None for as many as there are.

    Returns:
        [N, H, W, C]. Of a direction that is none zeros.

    Raises:
        UserError: A name, shape or type that does not fit.
    """
    if boundary_mode not in BOUNDARIES:
        raise UserError(f"`boundary_mode` is '{boundary_mode}'; it should be one of {', '.join(BOUNDARIES)}")
    if filter_mode not in FILTERS:
        raise UserError(f"`filter_mode` is '{filter_mode}'; it should be one of {', '.join(FILTERS)}")
    if filter_mode == "auto":
        filter_mode = "linear" if uv_da is None and mip_level_bias is None else "linear-mipmap-linear"
    cube = boundary_mode == "cube"
    _check(tex, uv, cube)
    mipmaps = "mipmap" in filter_mode and max_mip_level != 0
    stack, level = [tex], uv.new_empty(0)
    if mipmaps:
        if uv_da is None and mip_level_bias is None:
            raise UserError(f"`filter_mode` is {filter_mode}, which needs `uv_da` or `mip_level_bias`")
        mip = construct_mip(tex, max_mip_level, cube) if mip is None else mip
        stack += mip[:max_mip_level]
        level = _level(tex, uv, uv_da, cube) if uv_da is not None else torch.zeros_like(uv[..., 0])
        level = level if mip_level_bias is None else level + mip_level_bias
        level = level.clamp(0, len(stack) - 1)
        level = level.detach().floor() if filter_mode == "linear-mipmap-nearest" else level
    start, table = 0, []
    for each in stack:
        table.append([start, each.shape[-3], each.shape[-2]])
        start += each.shape[1:-1].numel()
    levels = torch.tensor(table, dtype=torch.int32).to(uv.device)
    texels = [each.reshape(len(tex), -1, tex.shape[-1]) for each in stack]
    whole = (torch.cat(texels, 1) if len(texels) > 1 else texels[0]).contiguous()
    boundary, nearest = BOUNDARIES.index(boundary_mode), filter_mode == "nearest"
    return sampling.look_up(whole, levels, uv.contiguous(), level.contiguous(), boundary, nearest)


def construct_mip(tex: Tensor, max_mip_level: int | None = None, cube_mode: bool = False) -> list[Tensor]:
    """Smaller textures, each of the means of 2 × 2 texels of the one before; a side of 1 stays 1.

    Args:
        tex: As for `texture`.
        max_mip_level: How many; None for all down to 1 × 1.
        cube_mode: Whether it is a cube map.

    Returns:
        [N or 1, (6,) rows, columns, C] each.

    Raises:
        UserError: A side that is odd and not 1, before the last level.
    """
    levels, flat = [], tex.flatten(0, 1) if cube_mode else tex
    while max(flat.shape[1:3]) > 1 and (max_mip_level is None or len(levels) < max_mip_level):
        rows, columns = flat.shape[1:3]
        if (rows > 1 and rows % 2) or (columns > 1 and columns % 2):
            raise UserError(
                f"a texture of {tex.shape[-3]} × {tex.shape[-2]} has no mipmap after {rows} × {columns}; make its "
                f"sides powers of 2, or set `max_mip_level` to at most {len(levels)}"
            )
        window = min(rows, 2), min(columns, 2)
        flat = functional.avg_pool2d(flat.movedim(-1, 1), window).movedim(1, -1)
        levels.append(flat.unflatten(0, (-1, 6)) if cube_mode else flat)
    return levels


def _level(tex: Tensor, uv: Tensor, uv_da: Tensor, cube: bool) -> Tensor:
    """Level [N, H, W] whose texels are as wide as the longer axis of a pixel's footprint."""
    by_x, by_y = uv_da[..., 0::2], uv_da[..., 1::2]
    if cube:
        by_x, by_y = _on_face(uv, by_x), _on_face(uv, by_y)
    size = torch.tensor([tex.shape[-2], tex.shape[-3]]).to(uv)
    by_x, by_y = by_x * size, by_y * size
    a, b, c = by_x.square().sum(-1), by_y.square().sum(-1), (by_x * by_y).sum(-1)
    tiny = torch.finfo(uv.dtype).tiny
    longer = (a + b) / 2 + (((a - b) / 2).square() + c.square()).clamp(min=tiny).sqrt()
    return longer.clamp(min=tiny).log2() / 2


def _on_face(d: Tensor, slope: Tensor) -> Tensor:
    """The slopes [..., 2] of (s, t) on the faces that directions [..., 3] meet, from those of the directions."""
    size = d.abs()
    z, y = size[..., 2] > size[..., :2].amax(-1), size[..., 1] > size[..., 0]
    axis = torch.where(z, 2, torch.where(y, 1, 0))[..., None]
    # what s and t run along, up to signs, which the footprint does not have
    along = torch.where(
        axis == 2, d.new_tensor([0, 1]), torch.where(axis == 1, d.new_tensor([0, 2]), d.new_tensor([2, 1]))
    )
    out, by_out = d.gather(-1, axis), slope.gather(-1, axis)
    at, by_at = d.gather(-1, along.long()), slope.gather(-1, along.long())
    return (by_at * out - at * by_out) / out.square() * out.sign() / 2


def _check(tex: Tensor, uv: Tensor, cube: bool) -> None:
    fits = tex.ndim == 4 + cube and uv.ndim == 4 and uv.shape[-1] == 2 + cube and tex.numel() > 0
    if cube:
        fits = fits and tex.shape[1] == 6 and tex.shape[2] == tex.shape[3]
    if not fits or len(tex) not in (1, len(uv)) or tex.dtype != torch.float32 or uv.dtype != torch.float32:
        wanted = "[N, 6, side, side, C] and [N, H, W, 3]" if cube else "[N, rows, columns, C] and [N, H, W, 2]"
        raise UserError(
            f"`tex` is {list(tex.shape)} {tex.dtype} and `uv` {list(uv.shape)} {uv.dtype}; "
            f"they should be {wanted} float32"
        )
