"""A multiresolution hash grid with two small networks behind it, for the fused kernels.

The grid is tiny-cuda-nn's, as the host's `HashGrid`; the networks have one hidden layer of ReLUs and no biases, one for
the density and one for three features. The samples of a tile go through the networks together. Their hidden values are
not kept: the backward pass computes them again. Source: Müller, Evans, Schied, Keller 2022.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import warp as wp
from torch import Tensor

from ...field import MOST_INPUTS
from .activations import TILE
from .marching import Rays
from .spans import Span, enter

WORKSPACE = (4 + 2 * MOST_INPUTS) * TILE
"""Numbers of a tile's workspace: raw numbers or their gradients, the networks' inputs, and their gradients."""
_REPLICAS = 256
"""Sums of the networks' gradients on CUDA, so that not all threads add to the same numbers."""


Launch = Callable[..., None]
"""(kernel, tasks, device, inputs(first task, part)); see `operators`."""


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
    """Where gradients are summed.

    Attributes:
        inputs: [R, S, 2 · levels], those of the networks' inputs, which `spread` adds to the entries.
        density: [replicas, H, 2 · levels], as all the networks' by slot modulo the first axis.
        density_out: [replicas, 1, H].
        feature: [replicas, H, 2 · levels].
        feature_out: [replicas, 3, H].
    """

    inputs: wp.array3d(dtype=float)
    density: wp.array3d(dtype=float)
    density_out: wp.array3d(dtype=float)
    feature: wp.array3d(dtype=float)
    feature_out: wp.array3d(dtype=float)


# `find` puts the entries round each sample of a tile and their weights into a buffer, and has them fetched from memory.
# A hash grid is larger than any cache, so entries are found one level or tile before they are needed.
_FIND = """
    unsigned rows[2][8][16];
    float weights[2][8][16];
    double places[2][3][16];
    auto locate = [&](int buffer, int ray, int first, int count, const auto& span) {
        const short* interval = index.data + (size_t)ray * index.shape[1] + first;
        for (int axis = 0; axis < 3; ++axis) {
            for (int l = 0; l < 16; ++l) {
                double x = span.start[axis] + ((l < count ? interval[l] : 0) + span.offset) * span.step[axis];
                places[buffer][axis][l] = x < 0.0 ? 0.0 : (x > 1.0 ? 1.0 : x);
            }
        }
    };
    auto find = [&](int buffer, int level, const double (*place)[16], int count) {
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
            unsigned* row = rows[buffer][corner];
            float* weight = weights[buffer][corner];
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
"""

_VECTORS = """
#if defined(__CUDA_ARCH__)
    typedef wp::vec_t<16, float> sixteen;
    auto add_times = [](sixteen& sum, float a, const sixteen& x) { sum += a * x; };
#else
    typedef float sixteen __attribute__((ext_vector_type(16), aligned(4)));
    auto add_times = [](sixteen& sum, float a, const sixteen& x) {
        sum = __builtin_elementwise_fma((sixteen)a, x, sum);
    };
#endif
    auto zero = []() { sixteen x; for (int l = 0; l < 16; ++l) x[l] = 0.0f; return x; };
    float* tile = workspace.data + (size_t)slot * workspace.shape[1];
    sixteen* numbers = (sixteen*)tile;       // [4], raw numbers or their gradients
    sixteen* inputs = numbers + 4;           // [K]
"""


@wp.func_native(
    """
    float* x = workspace.data + (size_t)slot * workspace.shape[1] + 4 * 16;
    const int inputs = 2 * shape.shape[0];
    float* by_sample = kept.data + ((size_t)ray * kept.shape[1] + first) * inputs;
    const float* table = (const float*)entries.data;
    if (count < 16 || active < shape.shape[0]) {
        for (int k = 0; k < inputs * 16; ++k) x[k] = 0.0f;
        for (int k = 0; k < inputs * count; ++k) by_sample[k] = 0.0f;
    }
"""
    + _FIND.replace("WRITE", "0")
    + """
    locate(0, ray, first, count, span);
    if (active > 0) find(0, 0, places[0], count);
    for (int level = 0; level < active; ++level) {
        if (level + 1 < active) find(level + 1 & 1, level + 1, places[0], count);
        for (int l = 0; l < count; ++l) {
            float a = 0.0f, b = 0.0f;
            for (int corner = 0; corner < 8; ++corner) {
                const float* entry = table + 2 * (size_t)rows[level & 1][corner][l];
                a += weights[level & 1][corner][l] * entry[0];
                b += weights[level & 1][corner][l] * entry[1];
            }
            x[(2 * level) * 16 + l] = by_sample[l * inputs + 2 * level] = a;
            x[(2 * level + 1) * 16 + l] = by_sample[l * inputs + 2 * level + 1] = b;
        }
    }
"""
)
def _encode(
    entries: wp.array(dtype=wp.vec2), scale: wp.array(dtype=float), shape: wp.array2d(dtype=int), active: int,
    span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int, kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Puts the networks' inputs of a tile into the workspace, and keeps them by sample."""
    ...


@wp.func_native(
    """
    float* table = (float*)gradient.data;
    const int inputs = slopes.shape[2];
"""
    + _FIND.replace("WRITE", "1")
    + """
    const int used_here = used.data[ray];
    for (int first = 0; first < used_here; first += 16) {
        const int count = used_here - first < 16 ? used_here - first : 16;
        if (first == 0) { locate(0, ray, 0, count, span); find(0, level, places[0], count); }
        const int now = first / 16 & 1, ahead = first + 16;
        if (ahead < used_here) {
            const int more = used_here - ahead < 16 ? used_here - ahead : 16;
            locate(1 - now, ray, ahead, more, span);
            find(1 - now, level, places[1 - now], more);
        }
        const float* slope = slopes.data + ((size_t)ray * slopes.shape[1] + first) * inputs + 2 * level;
        for (int l = 0; l < count; ++l) {
            const float a = slope[l * inputs], b = slope[l * inputs + 1];
            for (int corner = 0; corner < 8; ++corner) {
                float* entry = table + 2 * (size_t)rows[now][corner][l];
                const float weight = weights[now][corner][l];
#if defined(__CUDA_ARCH__)
                atomicAdd(entry, weight * a);
                atomicAdd(entry + 1, weight * b);
#else
                entry[0] += weight * a;
                entry[1] += weight * b;
#endif
            }
        }
    }
"""
)
def _spread(
    gradient: wp.array(dtype=wp.vec2), scale: wp.array(dtype=float), shape: wp.array2d(dtype=int), level: int,
    span: Span, ray: int, index: wp.array2d(dtype=wp.int16), used: wp.array(dtype=int), slopes: wp.array3d(dtype=float),
):  # fmt: skip
    """Adds the gradients of a ray's inputs to the entries of a level: the adjoint of `_encode`."""
    ...


# four hidden values h of a tile at a time, before the ReLU
_HIDDEN = """
    for (int j = 0; j < width; j += 4) {
        const float* w = hidden.data + (size_t)j * count;
        sixteen h[4] = {zero(), zero(), zero(), zero()};
        for (int k = 0; k < count; ++k) {
            const sixteen x = inputs[k];
            for (int i = 0; i < 4; ++i) add_times(h[i], w[i * count + k], x);
        }
"""


@wp.func_native(
    _VECTORS
    + """
    const int width = hidden.shape[0], count = hidden.shape[1], outputs = out.shape[0];
    sixteen sums[3];
    for (int c = 0; c < outputs; ++c) sums[c] = zero();
"""
    + _HIDDEN
    + """
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
    const float* by_sample = kept.data + ((size_t)ray * kept.shape[1] + begin) * count;  // [16, K]
    sixteen* slopes = inputs + 64;                   // [K], gradients of the inputs
    const int replica = slot % to_hidden.shape[0];
    // the layers of a replica lie side by side, see `zeros`
    float* hidden_sum = (float*)((char*)to_hidden.data + (size_t)replica * to_hidden.strides[0]);
    float* out_sum = (float*)((char*)to_out.data + (size_t)replica * to_out.strides[0]);
"""
    + _HIDDEN
    + """
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
                sixteen sum = zero();  // first of the tile alone, which keeps digits
                const float* x = by_sample + k;
                for (int l = 0; l < samples; ++l, x += count) add_times(sum, slope[i][l], *(const sixteen*)x);
                *(sixteen*)(to + k) += sum;
            }
            for (; k < count; ++k) {
                float sum = 0.0f;
                for (int l = 0; l < samples; ++l) sum += slope[i][l] * by_sample[l * count + k];
                to[k] += sum;
            }
#endif
        }
    }
"""
)
def _network_gradient(
    hidden: wp.array2d(dtype=float), out: wp.array2d(dtype=float), first: int, to_hidden: wp.array3d(dtype=float),
    to_out: wp.array3d(dtype=float), workspace: wp.array2d(dtype=float), slot: int, kept: wp.array3d(dtype=float),
    ray: int, begin: int, samples: int,
):  # fmt: skip
    """Adds the gradients of a network's weights; those of its inputs are added where `first` is not 0, else set."""
    ...


@wp.func_native(
    """
    float* tile = workspace.data + (size_t)slot * workspace.shape[1];
    if (count < 16) for (int c = 0; c < 4; ++c) for (int l = count; l < 16; ++l) tile[c * 16 + l] = 0.0f;
    const int inputs = kept.shape[2];
    const float* by_sample = kept.data + ((size_t)ray * kept.shape[1] + first) * inputs;
    for (int l = 0; l < 16; ++l) {
        for (int k = 0; k < inputs; ++k) tile[(4 + k) * 16 + l] = l < count ? by_sample[l * inputs + k] : 0.0f;
    }
"""
)
def _read(
    workspace: wp.array2d(dtype=float), slot: int, kept: wp.array3d(dtype=float), ray: int, first: int, count: int
):
    """Reads the inputs of a tile, and sets the gradients of the raw numbers beyond its samples to 0."""
    ...


@wp.func_native(
    """
    const int inputs = slopes.shape[2];
    const float* tile = workspace.data + (size_t)slot * workspace.shape[1] + (4 + 64) * 16;
    float* by_sample = slopes.data + ((size_t)ray * slopes.shape[1] + first) * inputs;
    for (int l = 0; l < count; ++l) for (int k = 0; k < inputs; ++k) by_sample[l * inputs + k] = tile[k * 16 + l];
"""
)
def _write(
    workspace: wp.array2d(dtype=float), slot: int, slopes: wp.array3d(dtype=float), ray: int, first: int, count: int
):
    """Keeps the gradients of a tile's inputs."""
    ...


@wp.func
def evaluate(
    field: Field, span: Span, ray: int, first: int, count: int, index: wp.array2d(dtype=wp.int16),
    workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float), kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Puts the raw numbers of a tile's samples into the workspace."""
    _encode(
        field.entries, field.scale, field.shape, field.active, span, ray, first, count, index, workspace, slot, kept
    )
    _network(field.density, field.density_out, 0, workspace, slot)
    _network(field.feature, field.feature_out, 1, workspace, slot)


@wp.func
def differentiate(
    field: Field, gradient: Gradient, part: int, span: Span, ray: int, first: int, count: int,
    index: wp.array2d(dtype=wp.int16), workspace: wp.array2d(dtype=float), slot: int, saved: wp.array3d(dtype=float),
    kept: wp.array3d(dtype=float),
):  # fmt: skip
    """Adds the gradients of a tile, in the workspace by raw number, to the networks'; keeps those of the inputs."""
    _read(workspace, slot, kept, ray, first, count)
    _network_gradient(
        field.density, field.density_out, 0, gradient.density, gradient.density_out, workspace, slot, kept, ray,
        first, count,
    )  # fmt: skip
    _network_gradient(
        field.feature, field.feature_out, 1, gradient.feature, gradient.feature_out, workspace, slot, kept, ray,
        first, count,
    )  # fmt: skip
    _write(workspace, slot, gradient.inputs, ray, first, count)


@wp.kernel(enable_backward=False)
def spread(
    rays: Rays, field: Field, first: int, part: int, own_ray: bool, order: wp.array(dtype=int),
    index: wp.array2d(dtype=wp.int16), used: wp.array(dtype=int), slopes: wp.array3d(dtype=float),
    gradient: wp.array(dtype=wp.vec2),
):  # fmt: skip
    """Adds the gradients of all inputs to the entries; a thread has a level, or on CUDA a level of a ray."""
    task, count = first + wp.tid(), used.shape[0]
    begin, end = int(0), int(count)
    level = int(task)
    if own_ray:
        level = task // count
        begin = task - level * count
        end = begin + 1
    level = order[level]
    for r in range(begin, end):
        if used[r] > 0:
            span = enter(
                rays.origins[r], rays.directions[r], rays.low, rays.high, rays.field_low, rays.field_high, rays.near,
                rays.far, rays.count, rays.offset[r],
            )  # fmt: skip
            _spread(gradient, field.scale, field.shape, level, span, r, index, used, slopes)


@cache
def _order(levels: int, parts: int, device: torch.device) -> Tensor:
    """The levels in an order that gives coarse ones, which are quicker, to all parts."""
    return torch.tensor([n for part in range(parts) for n in range(part, levels, parts)], dtype=torch.int32).to(device)


@cache
def _levels(settings: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    table = torch.tensor(settings, dtype=torch.float64).view(-1, 5)
    return table[:, 0].float().contiguous().to(device), table[:, 1:].int().contiguous().to(device)


def fill(tensors: Sequence[Tensor], settings: Sequence[float]) -> Any:
    """The struct of a grid with its networks.

    Args:
        tensors: Entries [N, 2]; hidden and last layer of the density's network, then of the features'.
        settings: Number of levels in use; then of each level `scale` and `shape`.
    """
    scale, shape = _levels(tuple(settings[1:]), tensors[0].device)
    field = Field()
    field.entries = wp.from_torch(tensors[0].detach(), dtype=wp.vec2)
    field.scale, field.shape, field.active = wp.from_torch(scale), wp.from_torch(shape), int(settings[0])
    for name, tensor in zip(_NETWORKS, tensors[1:], strict=True):
        setattr(field, name, wp.from_torch(tensor.detach()))
    return field


_NETWORKS = ("density", "density_out", "feature", "feature_out")


def zeros(tensors: Sequence[Tensor], parts: int, rows: int, samples: int) -> tuple[Any, list[Tensor]]:
    """The struct of the gradients, and its tensors: the inputs', and the networks' together, [replicas, …]."""
    entries, *networks = tensors
    replicas = parts if entries.device.type == "cpu" else _REPLICAS
    inputs = entries.new_empty(rows, samples, networks[0].shape[1])
    together = entries.new_zeros(replicas, sum(tensor.numel() for tensor in networks))
    gradient = Gradient()
    gradient.inputs = wp.from_torch(inputs)
    parts_of_layers = together.split([tensor.numel() for tensor in networks], 1)
    for name, part, tensor in zip(_NETWORKS, parts_of_layers, networks, strict=True):
        setattr(gradient, name, wp.from_torch(part.unflatten(1, tensor.shape)))
    return gradient, [inputs, together]


def kept(tensors: Sequence[Tensor]) -> int:
    """Numbers kept of a sample: the networks' inputs."""
    return tensors[1].shape[1]


def collect(tensors: Sequence[Tensor], sums: list[Tensor], launch: Launch, rays: Any, field: Any, samples: Any):
    """The gradients of the entries, and of all layers side by side, from what the backward kernel has summed."""
    entries, inputs = torch.zeros_like(tensors[0]), sums[0]
    index, used = samples
    levels = int(field.active)
    order = _order(levels, torch.get_num_threads(), inputs.device)
    arguments = [wp.from_torch(x) for x in (order, index, used, inputs)]
    own = inputs.device.type != "cpu"
    into = wp.from_torch(entries, dtype=wp.vec2)
    tasks = levels * len(used) if own else levels
    launch(spread, tasks, inputs.device, lambda first, part: [rays, field, first, part, own, *arguments, into])
    return [entries, sums[1].sum(0)]


KERNELS = (spread,)
"""Kernels besides the two of every field."""
