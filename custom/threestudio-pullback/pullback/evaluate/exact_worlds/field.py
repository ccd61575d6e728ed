"""The voxel field of the worlds, which renders a few fixed cameras at a quarter of the cost."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ...diffreps import VoxelField


@dataclass(frozen=True)
class _Lookup:
    """One camera's lookup: matrix [H·W·S, R³], its transpose, and the rays' pieces [1,H,W,1]."""

    matrix: Tensor
    transpose: Tensor  # transposing costs more than multiplying
    pieces: Tensor


class _Product(torch.autograd.Function):
    """matrix @ grid."""

    @staticmethod
    def forward(grid: Tensor, lookup: _Lookup) -> Tensor:
        return lookup.matrix @ grid

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, _Lookup], output: Tensor) -> None:
        ctx.lookup = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.lookup.transpose @ gradients[0], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return cast(Tensor, _Product.apply(tangents[0], ctx.lookup))


class Lookups:
    """The trilinear lookups of some cameras [K,4,4] in a field, as sparse matrices [H·W·S, R³].

    They serve every field of the same sizes, on the CPU in float32. A camera takes 2.5 MB at 24³ and 24×24 px.
    """

    def __init__(self, field: VoxelField, cameras: Tensor):
        self._kept = {key: _lookup(field, pose) for key, pose in zip(pose_keys(cameras), cameras, strict=True)}

    def of(self, views: Tensor) -> list[_Lookup] | None:
        """The lookup of each pose [V,4,4]; None if one of them has none."""
        lookups = [self._kept.get(key) for key in pose_keys(views)]
        return None if None in lookups else cast(list[_Lookup], lookups)


def pose_keys(views: Tensor) -> list[tuple[float, ...]]:
    """A hashable key of each camera of [V,4,4]: its numbers, read in a way that torch.func allows."""
    return [tuple(itertools.chain.from_iterable(pose)) for pose in views.tolist()]


class FixedCameraField(VoxelField):
    """A VoxelField that is fast for the cameras of its lookups; renders and gradients are equal up to rounding.

    Args:
        lookups: The lookups, which all fields of a world share.
        sizes: The arguments of VoxelField.
    """

    def __init__(self, lookups: Lookups, **sizes: Any):
        super().__init__(**sizes)
        self._lookups = lookups

    def render(self, views: Tensor) -> Tensor:
        """[V,3,H,W] in [−1, 1] for poses [V,4,4]."""
        lookups = self._lookups.of(views)
        if lookups is None or not torch.backends.mkl.is_available():  # sparse products need MKL
            return super().render(views)
        grid, shape = self.grid, (1, self.height, self.width, self.samples, 4)
        raw = [cast(Tensor, _Product.apply(grid, lookup)).view(shape) for lookup in lookups]
        return self._composite(torch.cat(raw), torch.cat([lookup.pieces for lookup in lookups]))


@torch.no_grad()
def _lookup(field: VoxelField, pose: Tensor) -> _Lookup:
    points, pieces = field._points(pose[None])
    rows, weights = zip(*field._corners(points.reshape(-1, 3)), strict=True)
    columns, values = torch.stack(rows, -1).flatten(), torch.cat(weights, -1).flatten()
    places = torch.stack([torch.arange(len(columns) // 8).repeat_interleave(8), columns])
    size = (len(columns) // 8, field.resolution**3)
    return _Lookup(_compressed(places, values, size), _compressed(places.flip(0), values, size[::-1]), pieces)


def _compressed(places: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    """A sparse matrix with 32-bit indices, which halve the memory that a product reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its compressed matrices a beta feature
        long = torch.sparse_coo_tensor(places, values, size, check_invariants=True).to_sparse_csr()
        return torch.sparse_csr_tensor(
            long.crow_indices().int(), long.col_indices().int(), long.values(), size, check_invariants=True
        )
