"""The functions of nvdiffrast for PyTorch, by `pullback.render`; names, arguments and meaning are nvdiffrast's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pullback.cuda_standins.absent import Absent
from pullback.render import rasterise as _kernels
from pullback.render.textures import construct_mip as texture_construct_mip
from pullback.render.textures import texture as texture
from torch import Tensor

antialias_construct_topology_hash = _kernels.opposite
interpolate = _kernels.interpolate
DepthPeeler = Absent("nvdiffrast.torch.DepthPeeler", "the stand-in on a CPU shows the nearest surface alone")
__all__ = [
    "DepthPeeler",
    "RasterizeCudaContext",
    "RasterizeGLContext",
    "antialias",
    "antialias_construct_topology_hash",
    "get_log_level",
    "interpolate",
    "rasterize",
    "set_log_level",
    "texture",
    "texture_construct_mip",
]


class RasterizeCudaContext:
    """What nvdiffrast rasterises with; here it holds nothing."""

    def __init__(self, device: Any = None) -> None:
        pass


class RasterizeGLContext(RasterizeCudaContext):
    """The same by its older name."""

    def __init__(self, output_db: bool = True, mode: str = "automatic", device: Any = None) -> None:
        super().__init__(device)

    def set_context(self) -> None:
        """Does nothing."""

    def release_context(self) -> None:
        """Does nothing."""


def rasterize(
    glctx: RasterizeCudaContext,
    pos: Tensor,
    tri: Tensor,
    resolution: Sequence[int],
    ranges: Tensor | None = None,
    grad_db: bool = True,
) -> tuple[Tensor, Tensor]:
    """`pullback.render.rasterise.rasterise`; `ranges` counts with positions [V, 4] alone, as in nvdiffrast."""
    return _kernels.rasterise(pos, tri, resolution, None if pos.ndim == 3 else ranges, grad_db)


def antialias(
    color: Tensor,
    rast: Tensor,
    pos: Tensor,
    tri: Tensor,
    topology_hash: Tensor | None = None,
    pos_gradient_boost: float = 1.0,
) -> Tensor:
    """`pullback.render.rasterise.antialias`."""
    return _kernels.antialias(color, rast, pos, tri, topology_hash, pos_gradient_boost)


def get_log_level() -> Literal[1]:
    """The default of nvdiffrast."""
    return 1


def set_log_level(level: int) -> None:
    """Does nothing: nothing is logged."""
