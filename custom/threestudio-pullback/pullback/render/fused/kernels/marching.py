"""Emission and absorption along rays, for any field: a forward and a backward kernel, one thread per ray.

A ray has equal intervals between its entry into the box and its exit, with one sample in each. Samples in empty cells
are left out, and those that less light reaches than `stop`. Sources: Max 1995; Müller et al. 2022, section 5.4 and
appendix E.
"""

from types import ModuleType
from typing import Any

import warp as wp

from .activations import TILE, activate
from .spans import blob, distance, enter, is_occupied


@wp.struct
class Rays:
    """The rays of a call, the box, and which samples count.

    Attributes:
        origins: [R].
        directions: [R], unit vectors.
        offset: [R], in [0, 1): where the samples lie in their intervals.
        low: Lower corner of the box.
        high: Upper corner.
        field_low: Lower corner of what the field fills.
        field_high: Upper corner.
        near: Where the part of a ray that counts begins.
        far: Where it ends.
        count: Intervals of a ray.
        occupied: [n, n, n], cells of the box that are not empty; of size 0 if none is known to be.
        cells: n.
        least: [1]; samples of a lower opacity count as empty.
        stop: Least transmittance.
        bias: Added to the raw density.
        blob: Further bias, see `blob`; 0 for none.
        scale: Of the blob.
        std: Of the blob.
        kind: Activation of the density, a place in DENSITIES.
        colour: Activation of the colours, a place in COLOURS.
    """

    origins: wp.array(dtype=wp.vec3)
    directions: wp.array(dtype=wp.vec3)
    offset: wp.array(dtype=float)
    low: wp.vec3d
    high: wp.vec3d
    field_low: wp.vec3d
    field_high: wp.vec3d
    near: wp.float64
    far: wp.float64
    count: int
    occupied: wp.array3d(dtype=wp.bool)
    cells: int
    least: wp.array(dtype=float)
    stop: wp.float64
    bias: float
    blob: int
    scale: float
    std: float
    kind: int
    colour: int


def kernels(field_module: ModuleType) -> tuple[Any, Any]:
    """The forward and the backward kernel of a field.

    Args:
        field_module: Its structs `Field` and `Gradient` and functions `evaluate` and `differentiate`.

    Returns:
        Kernels with these arguments: rays and field; only backward: where the gradients go; the first ray, the part of
        the gradients, a workspace [slots, …], whether every ray has a slot of its own; only forward: whether the
        samples of all rays are kept; the samples, saved [R, CHANNELS, S], index [R, S], used [R], and kept [R, S, …],
        what the field keeps of them; sums [R, 6], which are colour, opacity, depth and the spread of the depth; only
        backward: the gradient of the sums.
    """
    Field, Gradient = field_module.Field, field_module.Gradient
    evaluate, differentiate = field_module.evaluate, field_module.differentiate

    def forward(
        rays: Rays,
        field: Field,
        first: int,
        part: int,
        workspace: wp.array2d(dtype=float),
        own_slot: bool,
        keep: bool,
        saved: wp.array3d(dtype=float),
        index: wp.array2d(dtype=wp.int16),
        used: wp.array(dtype=int),
        kept: wp.array3d(dtype=float),
        sums: wp.array2d(dtype=float),
    ):
        ray = first + wp.tid()
        slot = wp.where(own_slot, ray, part)
        r = wp.where(keep, ray, slot)  # the row of `saved`
        low, high, n = rays.field_low, rays.field_high, rays.count
        span = enter(
            rays.origins[ray], rays.directions[ray], rays.low, rays.high, low, high, rays.near, rays.far, n,
            rays.offset[ray],
        )  # fmt: skip
        stop, least = rays.stop, rays.least[0]
        through = wp.float64(1.0)
        opacity, depth = wp.float64(0.0), wp.float64(0.0)
        colour = wp.vec3d()
        m, done = int(0), int(0)
        if span.length > wp.float64(0.0):
            while m < n and through > stop:
                lanes = int(0)
                if rays.cells == 0:
                    lanes = wp.min(TILE, n - m)
                    for lane in range(lanes):
                        index[r, done + lane] = wp.int16(m + lane)
                    m += lanes
                else:
                    while lanes < TILE and m < n:
                        if is_occupied(span, m, rays.occupied, rays.cells):
                            index[r, done + lanes] = wp.int16(m)
                            lanes += 1
                        m += 1
                for lane in range(lanes):
                    bias = rays.bias
                    if rays.blob > 0:
                        bias += blob(span, int(index[r, done + lane]), low, high, rays.blob, rays.scale, rays.std)
                    saved[r, 4, done + lane] = bias
                evaluate(field, span, r, done, lanes, index, workspace, slot, saved, kept)
                activate(workspace, slot, lanes, float(span.length), rays.kind, rays.colour, saved, r, done)
                last = done + lanes
                while done < last and through > stop:
                    alpha = saved[r, 0, done]
                    if alpha < least:
                        saved[r, 0, done] = 0.0
                        saved[r, 4, done] = 0.0
                        saved[r, 6, done] = 1.0
                        alpha = float(0.0)
                    weight = through * wp.float64(alpha)
                    for c in range(3):
                        colour[c] += weight * wp.float64(saved[r, 1 + c, done])
                    opacity += weight
                    depth += weight * distance(span, int(index[r, done]))
                    through *= wp.float64(saved[r, 6, done])
                    done += 1
        used[r] = done
        spread = wp.float64(0.0)
        if opacity > wp.float64(0.5):  # of a nearly empty ray the spread means nothing
            through = wp.float64(1.0)
            mean = depth / opacity
            for k in range(done):
                share = wp.float64(saved[r, 0, k])
                off = distance(span, int(index[r, k])) - mean
                spread += through * share * off * off
                through *= wp.float64(saved[r, 6, k])
            spread /= opacity
        for c in range(3):
            sums[ray, c] = float(colour[c])
        sums[ray, 3] = float(opacity)
        sums[ray, 4] = float(depth)
        sums[ray, 5] = float(spread)

    def backward(
        rays: Rays,
        field: Field,
        into: Gradient,
        first: int,
        part: int,
        workspace: wp.array2d(dtype=float),
        own_slot: bool,
        saved: wp.array3d(dtype=float),
        index: wp.array2d(dtype=wp.int16),
        used: wp.array(dtype=int),
        kept: wp.array3d(dtype=float),
        sums: wp.array2d(dtype=float),
        gradient: wp.array2d(dtype=float),
    ):
        r = first + wp.tid()
        slot = wp.where(own_slot, r, part)
        span = enter(
            rays.origins[r], rays.directions[r], rays.low, rays.high, rays.field_low, rays.field_high, rays.near,
            rays.far, rays.count, rays.offset[r],
        )  # fmt: skip
        g = wp.vec3(gradient[r, 0], gradient[r, 1], gradient[r, 2])
        by_opacity, by_depth = wp.float64(gradient[r, 3]), wp.float64(gradient[r, 4])
        opacity, depth, spread = wp.float64(sums[r, 3]), wp.float64(sums[r, 4]), wp.float64(sums[r, 5])
        # what the samples behind the present one add to the loss
        rest = by_opacity * opacity + by_depth * depth
        for c in range(3):
            rest += wp.float64(g[c]) * wp.float64(sums[r, c])
        by_spread, mean = wp.float64(0.0), wp.float64(0.0)
        if opacity > wp.float64(0.5):
            by_spread = wp.float64(gradient[r, 5]) / opacity
            mean = depth / opacity
        through = wp.float64(1.0)
        done, last = int(0), used[r]
        while done < last:
            lanes = wp.min(TILE, last - done)
            for lane in range(lanes):
                k = done + lane
                alpha = wp.float64(saved[r, 0, k])
                away = distance(span, int(index[r, k]))
                weight = through * alpha
                by_weight = by_opacity + by_depth * away + by_spread * ((away - mean) * (away - mean) - spread)
                for c in range(3):
                    value = saved[r, 1 + c, k]
                    by_weight += wp.float64(g[c] * value)
                    slope = wp.where(rays.colour == 0, value * (1.0 - value), 1.0)
                    workspace[slot, (1 + c) * TILE + lane] = float(weight) * g[c] * slope
                rest -= weight * by_weight
                through *= wp.float64(saved[r, 6, k])
                workspace[slot, lane] = float(through * by_weight - rest) * saved[r, 4, k]
            differentiate(field, into, part, span, r, done, lanes, index, workspace, slot, saved, kept)
            done += lanes

    name = field_module.__name__.rpartition(".")[2]
    module = wp.get_module(f"pullback.{name}")
    options = {"enable_backward": False}
    return wp.Kernel(forward, f"{name}_forward", module, options), wp.Kernel(
        backward, f"{name}_backward", module, options
    )
