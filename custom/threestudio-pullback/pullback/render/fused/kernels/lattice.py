"""Entries of a multiresolution hash grid at the samples of a tile, and where gradients of these go.

The grid is tiny-cuda-nn's, as the host's `HashGrid`. Source: Müller, Evans, Schied, Keller 2022.
"""

import warp as wp

from .spans import Span

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
def encode(
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
def spread_level(
    gradient: wp.array(dtype=wp.vec2), scale: wp.array(dtype=float), shape: wp.array2d(dtype=int), level: int,
    span: Span, ray: int, index: wp.array2d(dtype=wp.int16), used: wp.array(dtype=int), slopes: wp.array3d(dtype=float),
):  # fmt: skip
    """Adds the gradients of a ray's inputs to the entries of a level: the adjoint of `encode`."""
    ...
