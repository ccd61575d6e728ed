"""Sums along a ray, and their adjoint, over one tile of samples at a time; in C++, whose loops compilers do well.

`state[slot]` holds what a ray's tiles pass on, in double precision. Sources: Max 1995; Müller et al. 2022, section 5.4
and appendix E.
"""

import warp as wp

STATE = 6
"""Numbers that tiles pass on. Forward: transmittance, three colours, opacity, depth. Backward: transmittance, and what
the samples behind add to the loss."""


@wp.func_native(
    """
    const int row = saved.shape[2];
    float* s = saved.data + (size_t)ray * 7 * row + first;
    short* at = index.data + (size_t)ray * index.shape[1] + first;
    for (int l = 0; l < count; ++l) { if (interval >= 0) at[l] = (short)(interval + l); s[4 * row + l] = bias; }
"""
)
def line_up(
    index: wp.array2d(dtype=wp.int16), saved: wp.array3d(dtype=float), ray: int, first: int, count: int, interval: int,
    bias: float,
):  # fmt: skip
    """Notes the bias of a tile's samples and, from `interval` on if that is not below 0, their intervals."""
    ...


@wp.func_native(
    """
    const int row = saved.shape[2];
    float* s = saved.data + (size_t)ray * 7 * row + first;
    const short* at = index.data + (size_t)ray * index.shape[1] + first;
    double* sum = state.data + (size_t)slot * state.shape[1];
    if (first == 0) { sum[0] = 1.0; for (int k = 1; k < 6; ++k) sum[k] = 0.0; }
    double through = sum[0], red = sum[1], green = sum[2], blue = sum[3], opacity = sum[4], depth = sum[5];
    int l = 0;
    for (; l < count && through > stop; ++l) {
        float alpha = s[l];
        if (alpha < least) { s[l] = 0.0f; s[4 * row + l] = 0.0f; s[6 * row + l] = 1.0f; alpha = 0.0f; }
        double weight = through * alpha;
        red += weight * s[row + l];
        green += weight * s[2 * row + l];
        blue += weight * s[3 * row + l];
        opacity += weight;
        depth += weight * (entry + (at[l] + offset) * length);
        through *= s[6 * row + l];
    }
    sum[0] = through; sum[1] = red; sum[2] = green; sum[3] = blue; sum[4] = opacity; sum[5] = depth;
    return through > stop ? l : -l;
"""
)
def add_tile(
    saved: wp.array3d(dtype=float), index: wp.array2d(dtype=wp.int16), ray: int, first: int, count: int,
    entry: wp.float64, offset: wp.float64, length: wp.float64, stop: wp.float64, least: float,
    state: wp.array2d(dtype=wp.float64), slot: int,
) -> int:  # fmt: skip
    """Adds a tile's samples to the sums of a ray; those of an opacity below `least` become empty.

    Returns the number of samples that light reaches, negative if less than `stop` is left behind them.
    """
    ...


@wp.func_native(
    """
    const int row = saved.shape[2];
    const float* s = saved.data + (size_t)row_of_ray * 7 * row;
    const short* at = index.data + (size_t)row_of_ray * index.shape[1];
    const double* sum = state.data + (size_t)slot * state.shape[1];
    float* out = sums.data + (size_t)ray * sums.shape[1];
    double spread = 0.0, opacity = count > 0 ? sum[4] : 0.0, depth = count > 0 ? sum[5] : 0.0;
    if (opacity > 0.5) {  // of a nearly empty ray the spread means nothing
        double through = 1.0, mean = depth / opacity;
        for (int l = 0; l < count; ++l) {
            double off = entry + (at[l] + offset) * length - mean;
            spread += through * s[l] * off * off;
            through *= s[6 * row + l];
        }
        spread /= opacity;
    }
    for (int c = 0; c < 3; ++c) out[c] = count > 0 ? (float)sum[1 + c] : 0.0f;
    out[3] = (float)opacity;
    out[4] = (float)depth;
    out[5] = (float)spread;
"""
)
def finish(
    saved: wp.array3d(dtype=float), index: wp.array2d(dtype=wp.int16), row_of_ray: int, ray: int, count: int,
    entry: wp.float64, offset: wp.float64, length: wp.float64, state: wp.array2d(dtype=wp.float64), slot: int,
    sums: wp.array2d(dtype=float),
):  # fmt: skip
    """Writes the sums of a ray with `count` samples, and the spread of its depth."""
    ...


@wp.func_native(
    """
    const int row = saved.shape[2];
    const float* s = saved.data + (size_t)ray * 7 * row + first;
    const short* at = index.data + (size_t)ray * index.shape[1] + first;
    const float* total = sums.data + (size_t)ray * sums.shape[1];
    const float* g = gradient.data + (size_t)ray * gradient.shape[1];
    double* carry = state.data + (size_t)slot * state.shape[1];
    float* tile = workspace.data + (size_t)slot * workspace.shape[1];
    const double by_opacity = g[3], by_depth = g[4], spread = total[5];
    double by_spread = 0.0, mean = 0.0;
    if (total[3] > 0.5f) { by_spread = (double)g[5] / total[3]; mean = (double)total[4] / total[3]; }
    if (first == 0) {
        carry[0] = 1.0;
        carry[1] = by_opacity * total[3] + by_depth * total[4];
        for (int c = 0; c < 3; ++c) carry[1] += (double)g[c] * total[c];
    }
    double by_weight[16];
    float weights[16];
    for (int l = 0; l < 16; ++l) {
        const int k = l < count ? l : 0;
        double away = entry + (at[k] + offset) * length, off = away - mean;
        double value = by_opacity + by_depth * away + by_spread * (off * off - spread);
        for (int c = 0; c < 3; ++c) value += (double)(g[c] * s[(1 + c) * row + k]);
        by_weight[l] = value;
    }
    double through = carry[0], rest = carry[1];
    for (int l = 0; l < count; ++l) {
        double weight = through * s[l];
        weights[l] = (float)weight;
        rest -= weight * by_weight[l];
        through *= s[6 * row + l];
        tile[l] = (float)(through * by_weight[l] - rest) * s[4 * row + l];
    }
    carry[0] = through;
    carry[1] = rest;
    for (int c = 0; c < 3; ++c) {
        const float* value = s + (1 + c) * row;
        float* out = tile + (1 + c) * 16;
        if (colour == 0) for (int l = 0; l < count; ++l) out[l] = weights[l] * g[c] * (value[l] * (1.0f - value[l]));
        else for (int l = 0; l < count; ++l) out[l] = weights[l] * g[c];
    }
"""
)
def differentiate_tile(
    saved: wp.array3d(dtype=float), index: wp.array2d(dtype=wp.int16), ray: int, first: int, count: int,
    entry: wp.float64, offset: wp.float64, length: wp.float64, colour: int, sums: wp.array2d(dtype=float),
    gradient: wp.array2d(dtype=float), state: wp.array2d(dtype=wp.float64), workspace: wp.array2d(dtype=float),
    slot: int,
):  # fmt: skip
    """Puts the gradients of a tile's raw numbers into the workspace, from the gradient of the ray's sums."""
    ...
