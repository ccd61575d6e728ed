"""A multiresolution hash grid with two small networks behind it, for the fused kernels.

The grid is tiny-cuda-nn's, as the host's `HashGrid`; the networks have one hidden layer of ReLUs and no biases, one for
the density and one for three features. The samples of a tile go through the networks together. Their hidden values are
not kept: the backward pass computes them again. Source: Müller, Evans, Schied, Keller 2022.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from ...field import MOST_INPUTS
from .activations import TILE
from .spans import Span

WORKSPACE = (4 + 3 * MOST_INPUTS) * TILE
"""Numbers of a tile's workspace: raw numbers or their gradients, inputs, the same by sample, and their gradients."""
_REPLICAS = 256
"""Sums of the networks' gradients on CUDA, so that not all threads add to the same numbers."""


@wp.struct
class Field:
    """The grid and the networks.

    Attributes:
        entries: Of all levels, two features each.
        scale: [levels]; a position x in [0, 1] lies at x · scale + ½ in units of cells.
        shape: [levels, 4]: vertices a side, entries, whether the index is a hash, first entry.
        active: Number of levels in use; the others give zeros.
        density: [H, 2 · levels], hidden layer of the density's network.
        density_out: [1, H].
        feature: [H, 2 · levels], hidden layer of the features' network.
        feature_out: [3, H].
    """

    entries: wp.array(dtype=wp.vec2)
    scale: wp.array(dtype=float)
    shape: wp.array2d(dtype=int)
    active: int
    density: wp.array2d(dtype=float)
    density_out: wp.array2d(dtype=float)
    feature: wp.array2d(dtype=float)
    feature_out: wp.array2d(dtype=float)


@wp.struct
class Gradient:
    """Where the gradients of the field's arrays are summed: entries by part, networks by slot modulo the first axis."""

    entries: wp.array2d(dtype=wp.vec2)
    density: wp.array3d(dtype=float)
    density_out: wp.array3d(dtype=float)
    feature: wp.array3d(dtype=float)
    feature_out: wp.array3d(dtype=float)


# For each level, the entries round each sample of a tile, `at`, and their weights. They are found one level ahead, so that
# they are on their way from memory while the level before is worked on: a hash grid is larger than any cache.
_FOR_EACH_LEVEL = """
    const short* interval = index.data + (size_t)ray * index.shape[1] + first;
    double place[3][16];
    for (int axis = 0; axis < 3; ++axis) {
        for (int l = 0; l < 16; ++l) {
            double x = span.start[axis] + ((l < count ? interval[l] : 0) + span.offset) * span.step[axis];
            place[axis][l] = x < 0.0 ? 0.0 : (x > 1.0 ? 1.0 : x);
        }
    }
    unsigned rows[2][8][16];
    float weights[2][8][16];
    auto find = [&](int level) {
        const int* about = shape.data + 4 * level;
        const unsigned size = about[1], hashed = about[2], begin = about[3];
        const unsigned y = hashed ? 2654435761u : about[0], z = hashed ? 805459861u : about[0] * about[0];
        const double grow = scale.data[level];
        unsigned cell[3][16];
        float high[3][16];
        for (int axis = 0; axis < 3; ++axis) {
            const unsigned factor = axis == 0 ? 1u : (axis == 1 ? y : z);
            for (int l = 0; l < 16; ++l) {
                double p = place[axis][l] * grow + 0.5;
                int i = (int)p;
                high[axis][l] = (float)(p - i);
                cell[axis][l] = (unsigned)i * factor;
            }
        }
        for (int corner = 0; corner < 8; ++corner) {
            const unsigned dx = corner & 1 ? 1 : 0, dy = corner & 2 ? y : 0, dz = corner & 4 ? z : 0;
            unsigned* row = rows[level & 1][corner];
            float* weight = weights[level & 1][corner];
            for (int l = 0; l < 16; ++l) {
                unsigned i = cell[0][l] + dx, j = cell[1][l] + dy, k = cell[2][l] + dz;
                unsigned mixed = (i ^ j ^ k) & (size - 1), plain = i + j + k;
                plain = plain >= size ? plain - size : plain;
                row[l] = begin + (hashed ? mixed : plain);
                float a = corner & 1 ? high[0][l] : 1.0f - high[0][l], b = corner & 2 ? high[1][l] : 1.0f - high[1][l];
                weight[l] = a * b * (corner & 4 ? high[2][l] : 1.0f - high[2][l]);
            }
#if !defined(__CUDA_ARCH__)
            for (int l = 0; l < count; ++l) __builtin_prefetch(table + 2 * (size_t)row[l], WRITE);
#endif
        }
    };
    if (active > 0) find(0);
    for (int level = 0; level < active; ++level) {
        if (level + 1 < active) find(level + 1);
        for (int l = 0; l < count; ++l) {
            BEFORE
            for (int corner = 0; corner < 8; ++corner) {
                const size_t at = 2 * (size_t)rows[level & 1][corner][l];
                const float weight = weights[level & 1][corner][l];
                DO
            }
            AFTER
        }
    }
"""

_VECTORS = """
#if defined(__CUDA_ARCH__)
    typedef wp::vec_t<16, float> sixteen;
    auto add_times = [](sixteen& sum, float a, const sixteen& x) { sum += a * x; };
#else
    typedef float sixteen __attribute__((ext_vector_type(16), aligned(4)));
    auto add_times = [](sixteen& sum, float a, const sixteen& x) { sum = __builtin_elementwise_fma((sixteen)a, x, sum); };
#endif
    auto zero = []() { sixteen x; for (int l = 0; l < 16; ++l) x[l] = 0.0f; return x; };
    float* tile = workspace.data + (size_t)slot * workspace.shape[1];
    sixteen* numbers = (sixteen*)tile;       // [4], raw numbers or their gradients
    sixteen* inputs = numbers + 4;           // [K]
"""


@wp.func_native(
    """
    float* x = workspace.data + (size_t)slot * workspace.shape[1] + 4 * 16;
    float* by_sample = x + 64 * 16;
    const int inputs = 2 * shape.shape[0];
    const float* table = (const float*)entries.data;
    if (count < 16 || active < shape.shape[0]) {
        for (int k = 0; k < inputs * 16; ++k) { x[k] = 0.0f; by_sample[k] = 0.0f; }
    }
"""
    + _FOR_EACH_LEVEL.replace("WRITE", "0")
    .replace("BEFORE", "float a = 0.0f, b = 0.0f;")
    .replace("DO", "a += weight * table[at]; b += weight * table[at + 1];")
    .replace(
        "AFTER",
        """
            x[(2 * level) * 16 + l] = by_sample[l * inputs + 2 * level] = a;
            x[(2 * level + 1) * 16 + l] = by_sample[l * inputs + 2 * level + 1] = b;
""",
    )
)
def _encode(
    entries: wp.array(dtype=wp.vec2), scale: wp.array(dtype=float), shape: wp.array2d(dtype=int), active: int,
    span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int,
):  # fmt: skip
    """Puts the networks' inputs of a tile into the workspace, by input and by sample."""
    ...


@wp.func_native(
    """
    const float* by_input = workspace.data + (size_t)slot * workspace.shape[1] + (4 + 2 * 64) * 16;
    float* table = (float*)(gradient.data + (size_t)part * gradient.shape[1]);
"""
    + _FOR_EACH_LEVEL.replace("WRITE", "1")
    .replace(
        "BEFORE", "const float a = by_input[(2 * level) * 16 + l], b = by_input[(2 * level + 1) * 16 + l];"
    )
    .replace(
        "DO",
        """
#if defined(__CUDA_ARCH__)
                atomicAdd(table + at, weight * a); atomicAdd(table + at + 1, weight * b);
#else
                table[at] += weight * a; table[at + 1] += weight * b;
#endif
""",
    )
    .replace("AFTER", "")
)
def _spread(
    gradient: wp.array2d(dtype=wp.vec2), part: int, scale: wp.array(dtype=float), shape: wp.array2d(dtype=int),
    active: int, span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int,
):  # fmt: skip
    """Adds the gradients of the networks' inputs to the entries: the adjoint of `_encode`."""
    ...


@wp.func_native(
    _VECTORS
    + """
    const int width = hidden.shape[0], count = hidden.shape[1], outputs = out.shape[0];
    sixteen sums[3];
    for (int c = 0; c < outputs; ++c) sums[c] = zero();
    for (int j = 0; j < width; j += 4) {
        const float* w = hidden.data + (size_t)j * count;
        sixteen h[4] = {zero(), zero(), zero(), zero()};
        for (int k = 0; k < count; ++k) {
            const sixteen x = inputs[k];
            for (int i = 0; i < 4; ++i) add_times(h[i], w[i * count + k], x);
        }
        for (int i = 0; i < 4; ++i) {
            for (int l = 0; l < 16; ++l) h[i][l] = h[i][l] > 0.0f ? h[i][l] : 0.0f;
            for (int c = 0; c < outputs; ++c) add_times(sums[c], out.data[c * width + j + i], h[i]);
        }
    }
    for (int c = 0; c < outputs; ++c) numbers[first + c] = sums[c];
"""
)
def _network(
    hidden: wp.array2d(dtype=float), out: wp.array2d(dtype=float), first: int, workspace: wp.array2d(dtype=float),
    slot: int,
):  # fmt: skip
    """A network's outputs for a tile; they become the raw numbers from `first` on."""
    ...


@wp.func_native(
    _VECTORS
    + """
    const int width = hidden.shape[0], count = hidden.shape[1], outputs = out.shape[0];
    const float* by_sample = tile + (4 + 64) * 16;   // [16, K]
    sixteen* slopes = inputs + 2 * 64;               // [K], gradients of the inputs
    const int replica = slot % to_hidden.shape[0];
    float* hidden_sum = to_hidden.data + (size_t)replica * width * count;
    float* out_sum = to_out.data + (size_t)replica * outputs * width;
    for (int j = 0; j < width; j += 4) {
        const float* w = hidden.data + (size_t)j * count;
        sixteen h[4] = {zero(), zero(), zero(), zero()};
        for (int k = 0; k < count; ++k) {
            const sixteen x = inputs[k];
            for (int i = 0; i < 4; ++i) add_times(h[i], w[i * count + k], x);
        }
        sixteen slope[4];
        for (int i = 0; i < 4; ++i) {
            slope[i] = zero();
            for (int c = 0; c < outputs; ++c) {
                const sixteen g = numbers[first + c];
                add_times(slope[i], out.data[c * width + j + i], g);
                float sum = 0.0f;
                for (int l = 0; l < 16; ++l) sum += h[i][l] > 0.0f ? h[i][l] * g[l] : 0.0f;
                float* to = out_sum + c * width + j + i;
#if defined(__CUDA_ARCH__)
                atomicAdd(to, sum);
#else
                *to += sum;
#endif
            }
            for (int l = 0; l < 16; ++l) slope[i][l] = h[i][l] > 0.0f ? slope[i][l] : 0.0f;
        }
        for (int k = 0; k < count; ++k) {
            sixteen sum = first == 0 && j == 0 ? zero() : slopes[k];  // the density's network comes first
            for (int i = 0; i < 4; ++i) add_times(sum, w[i * count + k], slope[i]);
            slopes[k] = sum;
        }
        for (int i = 0; i < 4; ++i) {
            float* to = hidden_sum + (size_t)(j + i) * count;
#if defined(__CUDA_ARCH__)
            for (int k = 0; k < count; ++k) {
                float sum = 0.0f;
                for (int l = 0; l < 16; ++l) sum += slope[i][l] * inputs[k][l];
                atomicAdd(to + k, sum);
            }
#else
            int k = 0;
            for (; k + 16 <= count; k += 16) {
                sixteen sum = *(sixteen*)(to + k);
                for (int l = 0; l < 16; ++l) add_times(sum, slope[i][l], *(const sixteen*)(by_sample + l * count + k));
                *(sixteen*)(to + k) = sum;
            }
            for (; k < count; ++k) {
                for (int l = 0; l < 16; ++l) to[k] += slope[i][l] * by_sample[l * count + k];
            }
#endif
        }
    }
"""
)
def _network_gradient(
    hidden: wp.array2d(dtype=float), out: wp.array2d(dtype=float), first: int, to_hidden: wp.array3d(dtype=float),
    to_out: wp.array3d(dtype=float), workspace: wp.array2d(dtype=float), slot: int,
):  # fmt: skip
    """Adds the gradients of a network's weights; those of its inputs are added where `first` is not 0, else set."""
    ...


@wp.func_native(
    """
    float* tile = workspace.data + (size_t)slot * workspace.shape[1];
    if (count < 16) for (int c = 0; c < 4; ++c) for (int l = count; l < 16; ++l) tile[c * 16 + l] = 0.0f;
"""
)
def _clear(workspace: wp.array2d(dtype=float), slot: int, count: int):
    """Sets the gradients of the raw numbers beyond the tile's samples to 0."""
    ...


@wp.func
def evaluate(
    field: Field, span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float),
):  # fmt: skip
    """Puts the raw numbers of a tile's samples into the workspace."""
    _encode(field.entries, field.scale, field.shape, field.active, span, ray, first, count, index, workspace, slot)
    _network(field.density, field.density_out, 0, workspace, slot)
    _network(field.feature, field.feature_out, 1, workspace, slot)


@wp.func
def differentiate(
    field: Field, gradient: Gradient, part: int, span: Span, ray: int, first: int, count: int,
    index: wp.array2d(dtype=wp.int16), workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float),
):  # fmt: skip
    """Adds the gradients of a tile, which are in the workspace by raw number, to the networks and the entries."""
    _encode(field.entries, field.scale, field.shape, field.active, span, ray, first, count, index, workspace, slot)
    _clear(workspace, slot, count)
    _network_gradient(
        field.density, field.density_out, 0, gradient.density, gradient.density_out, workspace, slot
    )
    _network_gradient(
        field.feature, field.feature_out, 1, gradient.feature, gradient.feature_out, workspace, slot
    )
    _spread(
        gradient.entries, part, field.scale, field.shape, field.active, span, ray, first, count, index, workspace, slot
    )


@cache
def _levels(settings: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    table = torch.tensor(settings, dtype=torch.float64).view(-1, 5)
    return table[:, 0].float().contiguous().to(device), table[:, 1:].int().contiguous().to(device)


def fill(tensors: Sequence[Tensor], settings: Sequence[float]) -> Any:
    """The struct of a grid with its networks.

    Args:
        tensors: Entries [N, 2]; hidden and last layer of the density's network, then of the features'.
        settings: Number of levels in use; then of each level scale, vertices a side, entries, whether hashed, first entry.
    """
    scale, shape = _levels(tuple(settings[1:]), tensors[0].device)
    field = Field()
    field.entries = wp.from_torch(tensors[0].detach(), dtype=wp.vec2)
    field.scale, field.shape, field.active = wp.from_torch(scale), wp.from_torch(shape), int(settings[0])
    for name, tensor in zip(_NETWORKS, tensors[1:], strict=True):
        setattr(field, name, wp.from_torch(tensor.detach()))
    return field


_NETWORKS = ("density", "density_out", "feature", "feature_out")


def zeros(tensors: Sequence[Tensor], parts: int) -> tuple[Any, list[Tensor]]:
    """The struct of the gradients, and its tensors, each with one more axis in front to sum over."""
    replicas = parts if tensors[0].device.type == "cpu" else _REPLICAS
    sums = [tensors[0].new_zeros(parts, *tensors[0].shape)]
    sums += [tensor.new_zeros(replicas, *tensor.shape) for tensor in tensors[1:]]
    gradient = Gradient()
    gradient.entries = wp.from_torch(sums[0], dtype=wp.vec2)
    for name, tensor in zip(_NETWORKS, sums[1:], strict=True):
        setattr(gradient, name, wp.from_torch(tensor))
    return gradient, sums
