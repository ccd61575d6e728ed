"""A voxel grid for the fused kernels: trilinear interpolation, zero outside, as `lookup_voxels` of the host."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import warp as wp
from torch import Tensor

from .activations import TILE
from .spans import Span

WORKSPACE = 4 * TILE
"""Numbers of a tile's workspace."""


@wp.struct
class Field:
    """The grid.

    Attributes:
        rows: [Z·Y·X] raw density and three features of a voxel.
        gain: [1], multiplies the raw density.
        size: Voxels along x, y and z.
    """

    rows: wp.array(dtype=wp.vec4)
    gain: wp.array(dtype=float)
    size: wp.vec3i


@wp.struct
class Gradient:
    """Where the gradients are summed, one part per thread.

    Attributes:
        rows: [parts, Z·Y·X].
        gain: [parts].
    """

    rows: wp.array2d(dtype=wp.vec4)
    gain: wp.array(dtype=wp.float64)


# The lower neighbours of a tile's samples, and the weights of both neighbours along each axis; in the outermost half
# voxels the weights fade out. (int)(p + 1) - 1 is the floor of p >= -1, and cheaper.
# `four` is a vector register on a CPU.
_LOCATE = """
    const short* interval = index.data + (size_t)ray * index.shape[1] + first;
    float low[3][16], high[3][16];
    double at[16];
    int cell[16];
    for (int l = 0; l < 16; ++l) { at[l] = (l < count ? interval[l] : 0) + span.offset; cell[l] = 0; }
    for (int axis = 0, stride = 1; axis < 3; stride *= size[axis], ++axis) {
        const int last = size[axis] - 2;
        const double start = span.start[axis] * size[axis] - 0.5, step = span.step[axis] * size[axis];
        for (int l = 0; l < 16; ++l) {
            double p = start + at[l] * step;
            int i = (int)(p + 1.0) - 1;
            i = i < 0 ? 0 : (i > last ? last : i);
            float f = (float)(p - i);
            float a = f < 0.0f ? 1.0f + f : 1.0f - f, b = f > 1.0f ? 2.0f - f : f;
            low[axis][l] = a > 0.0f ? a : 0.0f;
            high[axis][l] = b > 0.0f ? b : 0.0f;
            cell[l] += i * stride;
        }
    }
    const int y = size[0], z = y * size[1];
#if defined(__CUDA_ARCH__)
    typedef wp::vec_t<4, float> four;
#else
    typedef float four __attribute__((ext_vector_type(4), aligned(4)));
#endif
"""


@wp.func_native(
    _LOCATE
    + """
    float* out = workspace.data + (size_t)slot * workspace.shape[1];
    four values[16];
    for (int l = 0; l < count; ++l) {
        const four *v = (const four*)(rows.data + cell[l]), *w = v + z;
        float x0 = low[0][l], x1 = high[0][l], y0 = low[1][l], y1 = high[1][l];
        four front = y0 * (x0 * v[0] + x1 * v[1]) + y1 * (x0 * v[y] + x1 * v[y + 1]);
        four back = y0 * (x0 * w[0] + x1 * w[1]) + y1 * (x0 * w[y] + x1 * w[y + 1]);
        values[l] = low[2][l] * front + high[2][l] * back;
    }
    // apart, or a compiler takes the vectors to pieces
    for (int c = 0; c < 4; ++c) for (int l = 0; l < 16; ++l) out[c * 16 + l] = ((const float*)values)[4 * l + c];
"""
)
def _interpolate(
    rows: wp.array(dtype=wp.vec4), size: wp.vec3i, span: Span, ray: int, first: int, count: int,
    index: wp.array2d(dtype=wp.int16), workspace: wp.array2d(dtype=float), slot: int,
):  # fmt: skip
    """The four numbers of each sample of a tile, from the eight voxels round it."""
    ...


@wp.func_native(
    _LOCATE
    + """
    const float* in = workspace.data + (size_t)slot * workspace.shape[1];
    four* grid = (four*)(gradient.data + (size_t)part * gradient.shape[1]);
    for (int l = 0; l < count; ++l) {
        four g;
        for (int c = 0; c < 4; ++c) g[c] = in[c * 16 + l];
        for (int corner = 0; corner < 8; ++corner) {
            float a = (corner & 1 ? high : low)[0][l], b = (corner & 2 ? high : low)[1][l];
            float weight = a * b * (corner & 4 ? high : low)[2][l];
            four* v = grid + cell[l] + (corner & 1 ? 1 : 0) + (corner & 2 ? y : 0) + (corner & 4 ? z : 0);
#if defined(__CUDA_ARCH__)
            for (int c = 0; c < 4; ++c) atomicAdd((float*)v + c, weight * g[c]);
#else
            *v += weight * g;
#endif
        }
    }
"""
)
def _spread(
    gradient: wp.array2d(dtype=wp.vec4), part: int, size: wp.vec3i, span: Span, ray: int, first: int, count: int,
    index: wp.array2d(dtype=wp.int16), workspace: wp.array2d(dtype=float), slot: int,
):  # fmt: skip
    """Adds four numbers of each sample of a tile to the eight voxels round it: the adjoint of `_interpolate`."""
    ...


@wp.func
def evaluate(
    field: Field, span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float),
    kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Puts the raw numbers of a tile's samples into the workspace, and the raw density without gain into channel 5."""
    _interpolate(field.rows, field.size, span, ray, first, count, index, workspace, slot)
    gain = field.gain[0]
    for lane in range(count):
        saved[ray, 5, first + lane] = workspace[slot, lane]
        workspace[slot, lane] *= gain


@wp.func
def differentiate(
    field: Field, gradient: Gradient, part: int, span: Span, ray: int, first: int, count: int,
    index: wp.array2d(dtype=wp.int16), workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float),
    kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Adds the gradients of a tile, which are in the workspace by raw number, to the voxels and the gain."""
    gain, total = field.gain[0], float(0.0)
    for lane in range(count):
        density = workspace[slot, lane]
        total += density * saved[ray, 5, first + lane]
        workspace[slot, lane] = density * gain
    wp.atomic_add(gradient.gain, part, wp.float64(total))
    _spread(gradient.rows, part, field.size, span, ray, first, count, index, workspace, slot)


def fill(tensors: Sequence[Tensor], settings: Sequence[float]) -> Any:
    """The struct of a grid.

    Args:
        tensors: Rows [Z·Y·X, 4] and gain [1].
        settings: Voxels along x, y and z.
    """
    field = Field()
    field.rows = wp.from_torch(tensors[0].detach(), dtype=wp.vec4)
    field.gain = wp.from_torch(tensors[1].detach())
    field.size = wp.vec3i(*map(int, settings))
    return field


def zeros(tensors: Sequence[Tensor], parts: int, rows: int, samples: int) -> tuple[Any, list[Tensor]]:
    """The struct of the gradients, and its tensors, each with one more axis of parts in front."""
    voxels, gain = tensors
    sums = [voxels.new_zeros(parts, *voxels.shape), gain.new_zeros(parts, 1, dtype=torch.float64)]
    gradient = Gradient()
    gradient.rows, gradient.gain = wp.from_torch(sums[0], dtype=wp.vec4), wp.from_torch(sums[1].view(-1))
    return gradient, sums


def kept(tensors: Sequence[Tensor]) -> int:
    """Numbers kept of a sample besides those that every field has: none."""
    return 0


def collect(tensors: Sequence[Tensor], sums: list[Tensor], launch: Any, rays: Any, field: Any, samples: Any):
    """The gradients of the rows and of the gain, from what the backward kernel has summed."""
    return [reduce(Tensor.add_, g.unbind()).to(x) for g, x in zip(sums, tensors, strict=True)]


KERNELS = ()
"""Kernels besides the two of every field: none."""
