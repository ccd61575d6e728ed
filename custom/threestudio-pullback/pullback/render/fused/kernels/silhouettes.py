"""Smoothing at silhouettes, which is where a picture depends on positions.

Of two neighbouring pixels that show different triangles, the nearer triangle ends between their centres. If it ends at
an edge of the silhouette, at a share t of the way, the pixel that the edge cuts takes ½ − t, or t − ½, of its
neighbour's colour: for a straight edge, about the area that it covers. Edges that are steep are looked for between
neighbours in a row, flat ones in a column. Source: Laine et al. 2020, section 3.6.
"""

from typing import Any

import warp as wp

from .triangles import Scene, Triangle, add_slopes, are_vertices, corner, locate, pixel_centre, triangle


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
    scene: Scene, marks: wp.array2d(dtype=wp.uint8), rast: wp.array(dtype=wp.vec4), place: wp.vec3i, i: int, j: int,
    axis: int, share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8),
):  # fmt: skip
    """What pixel i takes from its neighbour j, or if negative j from i, and at which edge: 1 to 3, 4 to 6 if j's."""
    here, there = rast[i], rast[j]
    if here[3] == there[3]:
        return
    number, side, off = int(here[3]), int(1), int(0)
    if number <= 0 or (there[3] > 0.0 and here[2] >= there[2]):
        number, side, off = int(there[3]), int(-1), int(1)
    own = scene.instanced * place[2]
    if number > scene.tri.shape[0] or marks[own, number - 1] == wp.uint8(0):
        return
    bits = int(marks[own, number - 1])
    t = triangle(scene.pos, own, scene.tri[number - 1])
    sign = wp.where(wp.dot(t.line_a, t.a) > wp.float64(0.0), wp.float64(1.0), -wp.float64(1.0))
    x, y = neighbours(scene, place, axis, off), neighbours(scene, place, axis, 1 - off)
    best, edge = leaves(t.line_a, x, y, sign), int(0)
    second, third = leaves(t.line_b, x, y, sign), leaves(t.line_c, x, y, sign)
    if second < best:
        best, edge = second, int(1)
    if third < best:
        best, edge = third, int(2)
    if best <= wp.float64(1.0) and ((bits >> edge) & 1) == 1 and is_steep(scene, line_of(t, edge), axis):
        share[i, axis] = float(side) * float(wp.float64(0.5) - best)
        code[i, axis] = wp.int8(edge + 1 + 3 * off)


@wp.func
def neighbours(scene: Scene, place: wp.vec3i, axis: int, off: int):
    """(X, Y, 1) of a pixel, or of its neighbour on the right or above."""
    if axis == 0:
        return pixel_centre(scene, place[0] + off, place[1])
    return pixel_centre(scene, place[0], place[1] + off)


@wp.kernel(enable_backward=False)
def compare(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, marks: wp.array2d(dtype=wp.uint8),
    rast: wp.array(dtype=wp.vec4), share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8),
):  # fmt: skip
    """`examine` of every pixel with its neighbours on the right and above, [P, 2], which hold zeros."""
    for item in range(first + wp.tid(), items, stride):
        place = locate(scene, item * span)
        for i in range(item * span, item * span + span):
            if place[0] + 1 < scene.width:
                examine(scene, marks, rast, place, i, i + 1, 0, share, code)
            if place[1] + 1 < scene.height:
                examine(scene, marks, rast, place, i, i + scene.width, 1, share, code)
            place[0] += 1


@wp.func
def add_difference(
    share: float, i: int, j: int, into: int, colour: wp.array2d(dtype=float), out: wp.array2d(dtype=float)
):
    """Adds a share of the difference of two colours to a third."""
    for k in range(out.shape[1]):
        out[into, k] += share * (colour[j, k] - colour[i, k])


@wp.kernel(enable_backward=False)
def smooth(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, share: wp.array2d(dtype=float),
    colour: wp.array2d(dtype=float), out: wp.array2d(dtype=float),
):  # fmt: skip
    """Colours [P, C], each with what it takes from its four neighbours."""
    for item in range(first + wp.tid(), items, stride):
        place = locate(scene, item * span)
        for i in range(item * span, item * span + span):
            for k in range(out.shape[1]):
                out[i, k] = colour[i, k]
            if share[i, 0] > 0.0:
                add_difference(share[i, 0], i, i + 1, i, colour, out)
            if place[0] > 0 and share[i - 1, 0] < 0.0:
                add_difference(share[i - 1, 0], i - 1, i, i, colour, out)
            if share[i, 1] > 0.0:
                add_difference(share[i, 1], i, i + scene.width, i, colour, out)
            if place[1] > 0 and share[i - scene.width, 1] < 0.0:
                add_difference(share[i - scene.width, 1], i - scene.width, i, i, colour, out)
            place[0] += 1


@wp.func
def move(
    scene: Scene, part: int, rast: wp.array(dtype=wp.vec4), place: wp.vec3i, i: int, j: int, axis: int, code: int,
    slope: float, gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """Adds to the gradients of an edge's ends, from the slope of the share between pixel i and its neighbour j."""
    number, edge, side, off = int(rast[i][3]), int(code - 1), int(1), int(0)
    if code > 3:
        number, edge, side, off = int(rast[j][3]), code - 4, int(-1), int(1)
    own = scene.instanced * place[2]
    corners = scene.tri[number - 1]
    t = triangle(scene.pos, own, corners)
    line, zero = line_of(t, edge), wp.vec3d()
    x, y = neighbours(scene, place, axis, off), neighbours(scene, place, axis, 1 - off)
    here, there = wp.dot(line, x), wp.dot(line, y)
    # of t = here / (here - there), and the share is side (½ - t)
    rate = wp.float64(-float(side) * slope) / ((here - there) * (here - there))
    by_line = rate * (here * y - there * x)
    if edge == 0:
        add_slopes(gradient, part, own, corners, t, by_line, zero, zero)
    elif edge == 1:
        add_slopes(gradient, part, own, corners, t, zero, by_line, zero)
    else:
        add_slopes(gradient, part, own, corners, t, zero, zero, by_line)


@wp.func
def slope_of(share: float, i: int, j: int, colour: wp.array2d(dtype=float), by_out: wp.array2d(dtype=float)):
    """The gradient of a share."""
    into, sum = wp.where(share >= 0.0, i, j), float(0.0)
    for k in range(colour.shape[1]):
        sum += by_out[into, k] * (colour[j, k] - colour[i, k])
    return sum


@wp.func
def add_back(share: float, into: int, i: int, by_out: wp.array2d(dtype=float), by_colour: wp.array2d(dtype=float)):
    """Adds a share of the gradient of one picture's pixel to that of a colour."""
    for k in range(by_out.shape[1]):
        by_colour[i, k] += share * by_out[into, k]


@wp.func
def unsmooth_pair(
    scene: Scene, part: int, rast: wp.array(dtype=wp.vec4), place: wp.vec3i, i: int, j: int, axis: int,
    share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8), colour: wp.array2d(dtype=float),
    by_out: wp.array2d(dtype=float), by_colour: wp.array2d(dtype=float), gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """The part of a pixel and its neighbour on the right or above."""
    if code[i, axis] > wp.int8(0):
        slope = slope_of(share[i, axis], i, j, colour, by_out)
        if slope != 0.0:
            move(scene, part, rast, place, i, j, axis, int(code[i, axis]), slope, gradient)
        add_back(-share[i, axis], wp.where(share[i, axis] >= 0.0, i, j), i, by_out, by_colour)


@wp.kernel(enable_backward=False)
def unsmooth(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, rast: wp.array(dtype=wp.vec4),
    share: wp.array2d(dtype=float), code: wp.array2d(dtype=wp.int8), colour: wp.array2d(dtype=float),
    by_out: wp.array2d(dtype=float), by_colour: wp.array2d(dtype=float), gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """The gradients of the colours [P, C] and of the positions [parts, images, V]: the adjoint of `smooth`."""
    for item in range(first + wp.tid(), items, stride):
        place, above = locate(scene, item * span), scene.width
        for i in range(item * span, item * span + span):
            for k in range(colour.shape[1]):
                by_colour[i, k] = by_out[i, k]
            unsmooth_pair(scene, part, rast, place, i, i + 1, 0, share, code, colour, by_out, by_colour, gradient)
            unsmooth_pair(scene, part, rast, place, i, i + above, 1, share, code, colour, by_out, by_colour, gradient)
            if place[0] > 0 and share[i - 1, 0] != 0.0:
                add_back(share[i - 1, 0], wp.where(share[i - 1, 0] >= 0.0, i - 1, i), i, by_out, by_colour)
            if place[1] > 0 and share[i - above, 1] != 0.0:
                add_back(share[i - above, 1], wp.where(share[i - above, 1] >= 0.0, i - above, i), i, by_out, by_colour)
            place[0] += 1


KERNELS: tuple[Any, ...] = (link, oppose, mark, compare, smooth, unsmooth)
