"""Smoothing at silhouettes, which is where a picture depends on positions.

Of two neighbouring pixels that show different triangles, the nearer triangle ends between their centres. If it ends at an
edge of the silhouette, at a share t of the way, the pixel that the edge cuts takes ½ − t, or t − ½, of its neighbour's
colour: for a straight edge, about the area that it covers. Edges that are steep are looked for between neighbours in a
row, flat ones in a column. Source: Laine et al. 2020, section 3.6.
"""

from typing import Any

import warp as wp

from .triangles import Scene, Triangle, add_slopes, are_vertices, corner, pixel_centre, triangle


@wp.struct
class Edges:
    """Half-edges by their lower vertex: half-edge 3 · triangle + i lies opposite the triangle's corner i.

    Attributes:
        tri: [T], corners.
        head: [B], last half-edge of each list, -1 for none; a half-edge is in that of its lower vertex modulo B.
        next: [3 T], the one before it in its list.
    """

    tri: wp.array(dtype=wp.vec3i)
    head: wp.array(dtype=int)
    next: wp.array(dtype=int)


@wp.func
def ends(edges: Edges, half: int):
    """Lower and higher vertex of a half-edge, and the corner opposite."""
    corners, i = edges.tri[half / 3], half % 3
    a, b = corners[(i + 1) % 3], corners[(i + 2) % 3]
    return wp.vec3i(wp.min(a, b), wp.max(a, b), corners[i])


@wp.kernel(enable_backward=False)
def link(edges: Edges, first: int, part: int, strips: int, stride: int):
    """Puts half-edges into the lists; a thread has the lists of a strip, and of the half-edges every `stride`-th."""
    task = first + wp.tid()
    strip = task % strips
    for half in range(task / strips, edges.next.shape[0], stride):
        e = ends(edges, half)
        if e[0] >= 0 and e[0] != e[1]:
            slot = e[0] % edges.head.shape[0]
            if slot % strips == strip:
                edges.next[half] = wp.atomic_exch(edges.head, slot, half)


@wp.kernel(enable_backward=False)
def oppose(edges: Edges, first: int, part: int, opposite: wp.array(dtype=int)):
    """The corner opposite each half-edge on its other side, -1 for none; of several that of the first triangle."""
    half = first + wp.tid()
    e = ends(edges, half)
    found, other = int(-1), int(-1)
    if e[0] >= 0 and e[0] != e[1]:
        at = edges.head[e[0] % edges.head.shape[0]]
        while at >= 0:
            o = ends(edges, at)
            if o[0] == e[0] and o[1] == e[1] and o[2] != e[2] and (other < 0 or at < other):
                other = at
                found = o[2]
            at = edges.next[at]
    opposite[half] = found


@wp.func
def has_turn(scene: Scene, own: int, opposite: int, line: wp.vec3d, area: wp.float64):
    """Whether the neighbour at an edge faces the other way, or there is none."""
    if opposite < 0 or opposite >= scene.pos.shape[1]:
        return True
    return wp.dot(line, corner(scene.pos, own, opposite)) * area >= wp.float64(0.0)


@wp.kernel(enable_backward=False)
def mark(scene: Scene, first: int, part: int, opposite: wp.array(dtype=wp.vec3i), marks: wp.array2d(dtype=wp.uint8)):
    """Which edges of a triangle [images, T] are of the silhouette, a bit each; task `image * T + triangle`."""
    task = first + wp.tid()
    count = scene.tri.shape[0]
    own, number = task / count, task % count
    bits = int(0)
    corners = scene.tri[number]
    if are_vertices(corners, scene.pos.shape[1]):
        t, other = triangle(scene.pos, own, corners), opposite[number]
        area = wp.dot(t.line_a, t.a)
        if has_turn(scene, own, other[0], t.line_a, area):
            bits += 1
        if has_turn(scene, own, other[1], t.line_b, area):
            bits += 2
        if has_turn(scene, own, other[2], t.line_c, area):
            bits += 4
    marks[own, number] = wp.uint8(bits)


@wp.func
def line_of(t: Triangle, edge: int):
    """The line of an edge, by the place of the corner opposite."""
    if edge == 0:
        return t.line_a
    if edge == 1:
        return t.line_b
    return t.line_c


@wp.func
def leaves(line: wp.vec3d, inner: wp.vec3d, outer: wp.vec3d, sign: wp.float64):
    """At which share of the way from a pixel inside to its neighbour an edge is crossed; 2 where it is not."""
    here, there = wp.max(sign * wp.dot(line, inner), wp.float64(0.0)), sign * wp.dot(line, outer)
    if there >= wp.float64(0.0):
        return wp.float64(2.0)
    return here / (here - there)


@wp.func
def is_steep(scene: Scene, line: wp.vec3d, axis: int):
    """Whether an edge is nearer to being perpendicular to an axis than to the other one, in pixels."""
    x = wp.abs(line[0]) / wp.float64(scene.width)
    y = wp.abs(line[1]) / wp.float64(scene.height)
    if axis == 0:
        return x >= y
    return y >= x


@wp.func
def examine(
    scene: Scene, marks: wp.array2d(dtype=wp.uint8), rast: wp.array(dtype=wp.vec4), i: int, j: int, axis: int,
    share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8),
):  # fmt: skip
    """What pixel i takes from its neighbour j, or if negative j from i, and at which edge: 1 to 3, 4 to 6 if j's."""
    share[i, axis] = 0.0
    code[i, axis] = wp.int8(0)
    here, there = rast[i], rast[j]
    if here[3] == there[3]:
        return
    inner, outer, number, shift, side = int(i), int(j), int(here[3]), int(1), float(1.0)
    if number <= 0 or (there[3] > 0.0 and here[2] >= there[2]):
        inner, outer, number, shift, side = j, i, int(there[3]), 4, -1.0
    own = scene.instanced * (i / (scene.width * scene.height))
    if number > scene.tri.shape[0] or marks[own, number - 1] == wp.uint8(0):
        return
    bits = int(marks[own, number - 1])
    t = triangle(scene.pos, own, scene.tri[number - 1])
    sign = wp.where(wp.dot(t.line_a, t.a) > wp.float64(0.0), wp.float64(1.0), -wp.float64(1.0))
    x, y = pixel_centre(scene, inner), pixel_centre(scene, outer)
    best, edge = leaves(t.line_a, x, y, sign), int(0)
    second, third = leaves(t.line_b, x, y, sign), leaves(t.line_c, x, y, sign)
    if second < best:
        best, edge = second, int(1)
    if third < best:
        best, edge = third, int(2)
    if best <= wp.float64(1.0) and ((bits >> edge) & 1) == 1 and is_steep(scene, line_of(t, edge), axis):
        share[i, axis] = side * float(wp.float64(0.5) - best)
        code[i, axis] = wp.int8(edge + shift)


@wp.kernel(enable_backward=False)
def compare(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, marks: wp.array2d(dtype=wp.uint8),
    rast: wp.array(dtype=wp.vec4), share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8),
):  # fmt: skip
    """`examine` of every pixel with its neighbours on the right and above, [P, 2]; at the border of itself."""
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            right = wp.where((i + 1) % scene.width > 0, i + 1, i)
            above = wp.where((i / scene.width + 1) % scene.height > 0, i + scene.width, i)
            examine(scene, marks, rast, i, right, 0, share, code)
            examine(scene, marks, rast, i, above, 1, share, code)


@wp.func
def step_of(scene: Scene, axis: int):
    """How many pixels further the neighbour along an axis is."""
    return wp.where(axis == 0, 1, scene.width)


@wp.func
def has_before(scene: Scene, i: int, axis: int):
    """Whether a pixel has a neighbour on the left, or below."""
    if axis == 0:
        return i % scene.width > 0
    return (i / scene.width) % scene.height > 0


@wp.kernel(enable_backward=False)
def smooth(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, share: wp.array2d(dtype=float),
    colour: wp.array2d(dtype=float), out: wp.array2d(dtype=float),
):  # fmt: skip
    """Colours [P, C], each with what it takes from its four neighbours."""
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            for k in range(out.shape[1]):
                out[i, k] = colour[i, k]
            for axis in range(2):
                step, ahead = step_of(scene, axis), float(share[i, axis])
                if ahead > 0.0:
                    for k in range(out.shape[1]):
                        out[i, k] += ahead * (colour[i + step, k] - colour[i, k])
                if has_before(scene, i, axis):
                    behind = float(share[i - step, axis])
                    if behind < 0.0:
                        for k in range(out.shape[1]):
                            out[i, k] += behind * (colour[i, k] - colour[i - step, k])


@wp.func
def move(
    scene: Scene, part: int, rast: wp.array(dtype=wp.vec4), i: int, axis: int, code: int, slope: float,
    gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """Adds to the gradients of an edge's ends, from the slope of the share between a pixel and its neighbour."""
    inner, outer, edge, side = int(i), int(i + step_of(scene, axis)), int(code - 1), float(1.0)
    if code > 3:
        inner, outer, edge, side = outer, inner, code - 4, -1.0
    own = scene.instanced * (i / (scene.width * scene.height))
    corners = scene.tri[int(rast[inner][3]) - 1]
    t = triangle(scene.pos, own, corners)
    line, zero = line_of(t, edge), wp.vec3d()
    x, y = pixel_centre(scene, inner), pixel_centre(scene, outer)
    here, there = wp.dot(line, x), wp.dot(line, y)
    # of t = here / (here - there), and the share is side (½ - t)
    rate = wp.float64(-side * slope) / ((here - there) * (here - there))
    by_line = rate * (here * y - there * x)
    if edge == 0:
        add_slopes(gradient, part, own, corners, t, by_line, zero, zero)
    elif edge == 1:
        add_slopes(gradient, part, own, corners, t, zero, by_line, zero)
    else:
        add_slopes(gradient, part, own, corners, t, zero, zero, by_line)


@wp.kernel(enable_backward=False)
def unsmooth(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, rast: wp.array(dtype=wp.vec4),
    share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8), colour: wp.array2d(dtype=float),
    by_out: wp.array2d(dtype=float), by_colour: wp.array2d(dtype=float), gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """The gradients of the colours [P, C] and of the positions [parts, images, V]: the adjoint of `smooth`."""
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            for k in range(colour.shape[1]):
                by_colour[i, k] = by_out[i, k]
            for axis in range(2):
                step = step_of(scene, axis)
                if code[i, axis] > wp.int8(0):
                    ahead, slope = float(share[i, axis]), float(0.0)
                    changed = wp.where(ahead >= 0.0, i, i + step)
                    for k in range(colour.shape[1]):
                        by_colour[i, k] -= ahead * by_out[changed, k]
                        slope += by_out[changed, k] * (colour[i + step, k] - colour[i, k])
                    if slope != 0.0:
                        move(scene, part, rast, i, axis, int(code[i, axis]), slope, gradient)
                if has_before(scene, i, axis):
                    behind = float(share[i - step, axis])
                    if behind != 0.0:
                        changed = wp.where(behind >= 0.0, i - step, i)
                        for k in range(colour.shape[1]):
                            by_colour[i, k] += behind * by_out[changed, k]


KERNELS: tuple[Any, ...] = (link, oppose, mark, compare, smooth, unsmooth)
