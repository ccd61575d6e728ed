"""Which triangle each pixel's centre shows: the nearest of those that contain it.

A pixel has a key of 63 bits, depth before triangle, and the smallest key wins; so the picture does not depend on the
order in which triangles are drawn, on threads, or on the device.
"""

from typing import Any

import warp as wp

from .triangles import Scene, are_vertices, centre, depth_plane, triangle

NOTHING = wp.constant(wp.int64(2**63 - 1))
"""The key of a pixel that shows nothing."""
MOST_TRIANGLES = 2**24 - 1
"""Numbers from 1 on that a key, and single precision, can tell apart."""
_WIDE = wp.constant(16)  # pixels of a box from which on it pays to find the ends of a row


@wp.func_native("return fma(a, b, c);")
def fma(a: wp.float64, b: wp.float64, c: wp.float64) -> wp.float64:
    """Computes a · b + c, rounded once: for -a and -c exactly the negative of it."""
    ...


@wp.func
def stretch(box: wp.vec4d, p: wp.vec4d, width: int, height: int):
    """A box (least x, greatest x, least y, greatest y), in pixels, that has a projected point in it as well."""
    x = (p[0] / p[3] + wp.float64(1.0)) * wp.float64(0.5) * wp.float64(width) - wp.float64(0.5)
    y = (p[1] / p[3] + wp.float64(1.0)) * wp.float64(0.5) * wp.float64(height) - wp.float64(0.5)
    return wp.vec4d(wp.min(box[0], x), wp.max(box[1], x), wp.min(box[2], y), wp.max(box[3], y))


@wp.func
def wide(p: wp.vec4):
    """The same numbers in double precision."""
    return wp.vec4d(wp.float64(p[0]), wp.float64(p[1]), wp.float64(p[2]), wp.float64(p[3]))


@wp.kernel(enable_backward=False)
def bound(scene: Scene, first: int, part: int, most: int, boxes: wp.array(dtype=wp.vec4i)):
    """The first and last column and row that a triangle may cover; task `image * most + place in its range`."""
    task = first + wp.tid()
    image, place = task / most, task % most
    boxes[task] = wp.vec4i(1, 0, 1, 0)
    if place >= scene.ranges[image][1]:
        return
    corners = scene.tri[scene.ranges[image][0] + place]
    if not are_vertices(corners, scene.pos.shape[1]):
        return
    own = scene.instanced * image
    zero, w, h = wp.float64(0.0), wp.float64(scene.width), wp.float64(scene.height)
    box = wp.vec4d(w, -wp.float64(1.0), h, -wp.float64(1.0))
    behind = int(0)
    for i in range(3):
        p, q = wide(scene.pos[own, corners[i]]), wide(scene.pos[own, corners[(i + 1) % 3]])
        # the part in front of the near plane: its corners, and where edges meet the plane
        here, there = p[2] + p[3], q[2] + q[3]
        if here >= zero:
            if p[3] > zero:
                box = stretch(box, p, scene.width, scene.height)
            else:
                behind = 1
        if (here < zero and there > zero) or (here > zero and there < zero):
            cut = (there * p - here * q) / (there - here)
            if cut[3] > zero:
                box = stretch(box, cut, scene.width, scene.height)
            else:
                behind = 1
    if behind == 1:  # it may be anywhere
        box = wp.vec4d(zero, w, zero, h)
    near = wp.float64(0.01)  # of rounding
    left, right = wp.ceil(wp.clamp(box[0] - near, zero, w)), wp.floor(wp.clamp(box[1] + near, -near, w - near))
    low, high = wp.ceil(wp.clamp(box[2] - near, zero, h)), wp.floor(wp.clamp(box[3] + near, -near, h - near))
    boxes[task] = wp.vec4i(int(left), int(right), int(low), int(high))


@wp.func
def least_of(line: wp.vec3d):
    """The least value on the inner side of an edge.

    A triangle has the centres that lie exactly on an edge if it has them after a tiny move right, and a tinier one up.
    """
    if line[0] > wp.float64(0.0) or (line[0] == wp.float64(0.0) and line[1] > wp.float64(0.0)):
        return wp.float64(0.0)
    return wp.float64(2.2250738585072014e-308)  # the least normal number


@wp.func_native(
    """
    auto* row = keys.data + begin;
    for (int x = first; x <= last; ++x) {
        const double column = (double)(2 * x + 1) * half - 1.0;
        const double a = fma(slope[0], column, base[0]), b = fma(slope[1], column, base[1]);
        const double c = fma(slope[2], column, base[2]), z = fma(slope[3], column, base[3]);
        const bool inside = (a >= least[0]) & (b >= least[1]) & (c >= least[2]) & (z >= -1.0) & (z <= 1.0);
        const double between = z < -1.0 ? -1.0 : (z > 1.0 ? 1.0 : z);
        const long long key = ((long long)((between * 0.5 + 0.5) * 549755813887.0) << 24) | number;
#if defined(__CUDA_ARCH__)
        if (inside) atomicMin((long long*)row + x, key);
#else
        const auto old = row[x];  // without a branch, so that a compiler takes several pixels at a time
        row[x] = (inside & (key < old)) ? key : old;
#endif
    }
"""
)
def lower(
    keys: wp.array(dtype=wp.int64), begin: int, first: int, last: int, half: wp.float64, base: wp.vec4d,
    slope: wp.vec4d, least: wp.vec3d, number: wp.int64,
):  # fmt: skip
    """Lowers the keys of a row's pixels that a triangle covers; 2³⁹ − 1 steps of depth, between both planes."""
    ...


@wp.func
def ahead(line: wp.vec3d, base: wp.float64, width: int, ends: wp.vec2i):
    """The part of a row that is on the inner side of an edge, up to a pixel more at each end."""
    if line[0] == wp.float64(0.0):
        return ends
    x = (wp.float64(1.0) - base / line[0]) * wp.float64(0.5) * wp.float64(width) - wp.float64(0.5)
    x = wp.clamp(x, wp.float64(-2.0), wp.float64(width + 2))
    if line[0] > wp.float64(0.0):
        return wp.vec2i(wp.max(ends[0], int(wp.floor(x)) - 1), ends[1])
    return wp.vec2i(ends[0], wp.min(ends[1], int(wp.ceil(x)) + 1))


@wp.kernel(enable_backward=False)
def cover(
    scene: Scene, first: int, part: int, most: int, boxes: wp.array(dtype=wp.vec4i), strips: int, block: int,
    stride: int, keys: wp.array(dtype=wp.int64),
):  # fmt: skip
    """Lowers the keys of the pixels that triangles cover.

    A thread has a strip, every `strips`-th block of as many rows as `block`, and of the triangles every `stride`-th.
    """
    task = first + wp.tid()
    strip = task % strips
    zero, one = wp.float64(0.0), wp.float64(1.0)
    across, up = one / wp.float64(scene.width), one / wp.float64(scene.height)
    for item in range(task / strips, boxes.shape[0], stride):
        box = boxes[item]
        first_block = box[2] / block
        first_block += (strip - first_block % strips + strips) % strips
        if box[0] > box[1] or box[2] > box[3] or first_block * block > box[3]:
            continue
        image = item / most
        number = scene.ranges[image][0] + item % most
        corners, own = scene.tri[number], scene.instanced * image
        t = triangle(scene.pos, own, corners)
        area = wp.dot(t.line_a, t.a)
        if area == zero or not wp.isfinite(area):
            continue
        sign = wp.where(area > zero, one, -one)
        line_a, line_b, line_c = sign * t.line_a, sign * t.line_b, sign * t.line_c
        least = wp.vec3d(least_of(line_a), least_of(line_b), least_of(line_c))
        depth = depth_plane(scene.pos, own, corners, t)
        for number_of_block in range(first_block, box[3] / block + 1, strips):
            low, high = wp.max(box[2], number_of_block * block), wp.min(box[3], (number_of_block + 1) * block - 1)
            for y in range(low, high + 1):
                row = centre(y, up)
                base_a, base_b = fma(line_a[1], row, line_a[2]), fma(line_b[1], row, line_b[2])
                base_c, base_depth = fma(line_c[1], row, line_c[2]), fma(depth[1], row, depth[2])
                ends = wp.vec2i(box[0], box[1])
                if box[1] - box[0] > _WIDE:
                    ends = ahead(line_a, base_a, scene.width, ends)
                    ends = ahead(line_b, base_b, scene.width, ends)
                    ends = ahead(line_c, base_c, scene.width, ends)
                begin = (image * scene.height + y) * scene.width
                lower(
                    keys, begin, ends[0], ends[1], across, wp.vec4d(base_a, base_b, base_c, base_depth),
                    wp.vec4d(line_a[0], line_b[0], line_c[0], depth[0]), least, wp.int64(number + 1),
                )  # fmt: skip


KERNELS: tuple[Any, ...] = (bound, cover)
