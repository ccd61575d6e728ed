"""Rays as the fused kernels see them: the part in the box, and its samples."""

import warp as wp


@wp.struct
class Span:
    """A ray in the coordinates of the field, [0, 1]³: the sample of interval m lies at start + (m + offset) · step.

    Attributes:
        start: Where the ray enters the box.
        step: Of an interval.
        cell_start: As `start`, in the coordinates of the box.
        cell_step: As `step`, in the coordinates of the box.
        entry: The distance of `start` from the ray's origin.
        length: Of an interval; 0 or less where the ray misses the box.
        offset: Of a sample in its interval, in [0, 1).
    """

    start: wp.vec3d
    step: wp.vec3d
    cell_start: wp.vec3d
    cell_step: wp.vec3d
    entry: wp.float64
    length: wp.float64
    offset: wp.float64


@wp.func
def enter(
    origin: wp.vec3, direction: wp.vec3, low: wp.vec3d, high: wp.vec3d, field_low: wp.vec3d, field_high: wp.vec3d,
    near: wp.float64, far: wp.float64, count: int, offset: float,
):  # fmt: skip
    """The part of a ray in the box from low to high, between the distances near and far, in `count` intervals.

    The field fills the box from field_low to field_high.
    """
    span = Span()
    entry, leave = wp.float64(near), wp.float64(far)
    for axis in range(3):
        # the slope that `ray_box` takes for 0, so that both end at the same place
        d = wp.float64(wp.where(direction[axis] == 0.0, 1.1754943508222875e-38, direction[axis]))
        a = (low[axis] - wp.float64(origin[axis])) / d
        b = (high[axis] - wp.float64(origin[axis])) / d
        entry = wp.max(entry, wp.min(a, b))
        leave = wp.min(leave, wp.max(a, b))
    span.entry = entry
    span.length = (leave - entry) / wp.float64(count)
    span.offset = wp.float64(offset)
    for axis in range(3):
        d = wp.float64(direction[axis])
        place = wp.float64(origin[axis]) + entry * d
        extent, field_extent = high[axis] - low[axis], field_high[axis] - field_low[axis]
        span.start[axis] = (place - field_low[axis]) / field_extent
        span.step[axis] = span.length * d / field_extent
        span.cell_start[axis] = (place - low[axis]) / extent
        span.cell_step[axis] = span.length * d / extent
    return span


@wp.func
def is_occupied(span: Span, m: int, occupied: wp.array3d(dtype=wp.bool), cells: int):
    """Whether the sample of interval m lies in an occupied cell of the box's grid with `cells` cells a side."""
    point = span.cell_start + (wp.float64(m) + span.offset) * span.cell_step
    last, scale = cells - 1, wp.float64(cells)
    x = wp.clamp(int(point[0] * scale), 0, last)
    y = wp.clamp(int(point[1] * scale), 0, last)
    z = wp.clamp(int(point[2] * scale), 0, last)
    return occupied[x, y, z]


@wp.func
def blob(span: Span, m: int, low: wp.vec3d, high: wp.vec3d, kind: int, scale: float, std: float):
    """The bias round the origin at the sample of interval m: scale·(1 − |x|/std) (1) or scale·exp(−|x|²/2std²) (2)."""
    squared = wp.float64(0.0)
    for axis in range(3):
        place = span.start[axis] + (wp.float64(m) + span.offset) * span.step[axis]
        x = low[axis] + place * (high[axis] - low[axis])
        squared += x * x
    far = float(squared)
    if kind == 1:
        return scale * (1.0 - wp.sqrt(far) / std)
    return scale * wp.exp(-0.5 * far / (std * std))
