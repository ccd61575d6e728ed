"""Emission and absorption along rays, for any field: a forward and a backward kernel, one thread per ray.

A ray has equal intervals between its entry into the box and its exit, with one sample in each. Samples in empty cells
are left out, and those that less light reaches than `stop`.
"""

from types import ModuleType
from typing import Any

import warp as wp

from .activations import TILE, activate
from .compositing import add_tile, differentiate_tile, finish, line_up
from .spans import blob, enter, is_occupied


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
        least: [1], samples of a lower opacity count as empty; or [0].
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
        the gradients, a workspace [slots, …] and the state [slots, STATE], whether every ray has a slot of its own;
        only forward: whether the samples of all rays are kept; the samples, saved [R, CHANNELS, S], index [R, S],
        used [R], and kept [R, S, …], what the field keeps of them; sums [R, 6], which are colour, opacity, depth and
        the spread of the depth; only backward: the gradient of the sums.
    """
    Field, Gradient = field_module.Field, field_module.Gradient
    evaluate, differentiate = field_module.evaluate, field_module.differentiate

    def forward(
        rays: Rays,
        field: Field,
        first: int,
        part: int,
        workspace: wp.array2d(dtype=float),
        state: wp.array2d(dtype=wp.float64),
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
        stop, least = rays.stop, float(0.0)
        if rays.least.shape[0] > 0:
            least = rays.least[0]
        m, done, opaque = int(0), int(0), int(0)
        if span.length > wp.float64(0.0):
            while m < n and opaque == 0:
                lanes, begin = int(0), m
                if rays.cells == 0:
                    lanes = wp.min(TILE, n - m)
                    m += lanes
                else:
                    begin = -1
                    while lanes < TILE and m < n:
                        if is_occupied(span, m, rays.occupied, rays.cells):
                            index[r, done + lanes] = wp.int16(m)
                            lanes += 1
                        m += 1
                line_up(index, saved, r, done, lanes, begin, rays.bias)
                if rays.blob > 0:
                    for k in range(done, done + lanes):
                        saved[r, 4, k] += blob(span, int(index[r, k]), low, high, rays.blob, rays.scale, rays.std)
                evaluate(field, span, r, done, lanes, index, workspace, slot, saved, kept)
                activate(workspace, slot, lanes, float(span.length), rays.kind, rays.colour, saved, r, done)
                reached = add_tile(
                    saved, index, r, done, lanes, span.entry, span.offset, span.length, stop, least, state, slot
                )
                opaque = wp.where(reached < 0, 1, 0)
                done += wp.abs(reached)
        used[r] = done
        finish(saved, index, r, ray, done, span.entry, span.offset, span.length, state, slot, sums)

    def backward(
        rays: Rays,
        field: Field,
        into: Gradient,
        first: int,
        part: int,
        workspace: wp.array2d(dtype=float),
        state: wp.array2d(dtype=wp.float64),
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
        done, last = int(0), used[r]
        while done < last:
            lanes = wp.min(TILE, last - done)
            differentiate_tile(
                saved, index, r, done, lanes, span.entry, span.offset, span.length, rays.colour, sums, gradient, state,
                workspace, slot,
            )  # fmt: skip
            differentiate(field, into, part, span, r, done, lanes, index, workspace, slot, saved, kept)
            done += lanes

    name = field_module.__name__.rpartition(".")[2]
    module = wp.get_module(f"pullback.{name}")
    options = {"enable_backward": False}
    return wp.Kernel(forward, f"{name}_forward", module, options), wp.Kernel(
        backward, f"{name}_backward", module, options
    )
