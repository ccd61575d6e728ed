"""What lies behind a field, added to its colours: c + b (1 − α), and the adjoint of that; one thread per ray."""

import warp as wp


@wp.kernel(enable_backward=False, module="pullback.backdrop")
def forward(
    first: int, sums: wp.array2d(dtype=float), behind: wp.array2d(dtype=float), colours: wp.array2d(dtype=float)
):
    """Colours [R, 3] from sums [R, 6] and what is behind [R, 3]."""
    r = first + wp.tid()
    for c in range(3):
        colours[r, c] = sums[r, c] + behind[r, c] * (1.0 - sums[r, 3])


@wp.kernel(enable_backward=False, module="pullback.backdrop")
def backward(
    first: int, sums: wp.array2d(dtype=float), behind: wp.array2d(dtype=float), gradient: wp.array2d(dtype=float),
    by_sums: wp.array2d(dtype=float), by_behind: wp.array2d(dtype=float), wanted: bool,
):  # fmt: skip
    """The gradients of the sums and, if wanted, of what is behind, from that of the colours [R, 3]."""
    r = first + wp.tid()
    by_opacity = float(0.0)
    for c in range(3):
        by_sums[r, c] = gradient[r, c]
        by_opacity -= gradient[r, c] * behind[r, c]
        if wanted:
            by_behind[r, c] = gradient[r, c] * (1.0 - sums[r, 3])
    by_sums[r, 3] = by_opacity
    by_sums[r, 4] = 0.0
    by_sums[r, 5] = 0.0


KERNELS = forward, backward
