"""Activations of a tile of samples, in C++ loops that a compiler turns into vector instructions.

The C library's exp and log take one number at a time, which is half of a sample's time on a CPU. Here exp is Cephes'
range reduction with a polynomial, and log1p(e) = 2 artanh(e / (2 + e)) for e in [0, 1]; both are exact to about two
units in the last place. Numbers of a tile lie side by side: `workspace[slot, channel * TILE + lane]`.
"""

import warp as wp

TILE = 16
"""Samples of a ray that are evaluated together."""

CHANNELS = 7
"""Numbers kept of a sample: opacity α, three colours, dσ/d(raw density) · δ, the raw density before gain and bias, and
1 − α, which where α is near 1 has more digits than α."""


@wp.func_native(
    """
    const int lanes = 16;
    const float* in = workspace.data + (size_t)slot * workspace.shape[1];
    float* out = saved.data + (size_t)ray * 7 * saved.shape[2] + first;
    const int row = saved.shape[2];
    // e^x as two numbers whose sum it is; with 1 taken from the larger, the sum is exact also where x is small
    auto exponential = [](float x, float& larger) {
        x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
        float n = rintf(x * 1.44269504088896f);
        float r = fmaf(n, -0.693359375f, x);
        r = fmaf(n, 2.12194440e-4f, r);
        float p = 1.9875691500e-4f;
        p = fmaf(p, r, 1.3981999507e-3f);
        p = fmaf(p, r, 8.3334519073e-3f);
        p = fmaf(p, r, 4.1665795894e-2f);
        p = fmaf(p, r, 1.6666665459e-1f);
        p = fmaf(p, r, 5.0000001201e-1f);
        p = fmaf(p, r * r, r);
        union { int i; float f; } power;
        power.i = ((int)n + 127) << 23;
        larger = power.f;
        return p * power.f;
    };
    auto exp_of = [&](float x) {
        float larger, rest = exponential(x, larger);
        return larger + rest;
    };
    auto log_one_plus = [](float e) {  // of e in [0, 1]
        float s = e / (2.0f + e), q = s * s;
        float p = 0.18181818f;
        p = fmaf(p, q, 0.22222222f);
        p = fmaf(p, q, 0.28571429f);
        p = fmaf(p, q, 0.4f);
        p = fmaf(p, q, 0.66666667f);
        p = fmaf(p, q * s, 2.0f * s);
        return p;
    };
    float alpha[lanes], slope[lanes], clear[lanes];
    for (int l = 0; l < count; ++l) slope[l] = out[4 * row + l];
    for (int l = count; l < lanes; ++l) slope[l] = 0.0f;
    for (int l = 0; l < lanes; ++l) {
        float x = in[l] + slope[l], density, rate;
        if (kind == 0) {
            float e = exp_of(x < 0.0f ? x : -x);
            density = (x > 0.0f ? x : 0.0f) + log_one_plus(e);
            rate = x > 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
        } else if (kind == 3) {
            density = x > 0.0f ? x : 0.0f;
            rate = x > 0.0f ? 1.0f : 0.0f;
        } else {
            density = exp_of(x);
            rate = kind == 2 && x > 15.0f ? 3269017.4f : density;
        }
        float larger, rest = exponential(-density * step, larger);
        alpha[l] = (1.0f - larger) - rest;
        clear[l] = larger + rest;
        slope[l] = rate * step;
    }
    for (int l = 0; l < count; ++l) { out[l] = alpha[l]; out[4 * row + l] = slope[l]; out[6 * row + l] = clear[l]; }
    for (int c = 1; c < 4; ++c) {
        float value[lanes];
        for (int l = 0; l < lanes; ++l) {
            float x = in[c * lanes + l];
            value[l] = colour == 0 ? 1.0f / (1.0f + exp_of(-x)) : x;
        }
        for (int l = 0; l < count; ++l) out[c * row + l] = value[l];
    }
"""
)
def activate(
    workspace: wp.array2d(dtype=float),
    slot: int,
    count: int,
    step: float,
    kind: int,
    colour: int,
    saved: wp.array3d(dtype=float),
    ray: int,
    first: int,
):
    """Fills `saved[ray, :, first:first + count]`, from the raw numbers of a tile and the bias in channel 4."""
    ...
