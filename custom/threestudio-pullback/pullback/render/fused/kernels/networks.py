"""Networks with one hidden layer of ReLUs and no biases, for the samples of a tile together.

Hidden values are not kept: the gradient computes them again. `workspace[slot]` holds raw numbers or their gradients,
then the inputs, then the gradients of the inputs, each by channel, 16 samples side by side.
"""

import warp as wp

from ...field import MOST_INPUTS
from .activations import TILE

WORKSPACE = (4 + 2 * MOST_INPUTS) * TILE
"""Numbers of a tile's workspace: raw numbers or their gradients, the networks' inputs, and their gradients."""

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
def network(
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
def network_gradient(
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
def read(
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
def write(
    workspace: wp.array2d(dtype=float), slot: int, slopes: wp.array3d(dtype=float), ray: int, first: int, count: int
):
    """Keeps the gradients of a tile's inputs."""
    ...
