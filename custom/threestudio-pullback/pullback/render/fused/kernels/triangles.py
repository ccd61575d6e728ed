"""Triangles in homogeneous coordinates of the image, (x, y, w) of clip space.

The line through two corners a and b is a × b: for a pixel's centre (X, Y), which lies at x = (X, Y, 1), the number
(a × b) · x is positive on one side of it and negative on the other, and det(a, b, c) is twice a triangle's area, times
the three w. All this holds as well where w ≤ 0, so nothing has to be clipped. Source: Olano and Greer 1997.

A corner has single precision and all is computed in double precision, so the line of an edge that two triangles share
is for one exactly the negative of the other's.
"""

import warp as wp

NEAREST_AREA = 1e-6
"""Least determinant, in units of clip space, that a gradient is divided by: a tenth of a pixel of 1024 × 1024."""


@wp.struct
class Triangle:
    """Corners, and the lines of the edges, each at the place of the corner that it does not touch."""

    a: wp.vec3d
    b: wp.vec3d
    c: wp.vec3d
    line_a: wp.vec3d
    line_b: wp.vec3d
    line_c: wp.vec3d


@wp.struct
class Scene:
    """Triangles of all images.

    Attributes:
        pos: [1, V] or [N, V], clip space.
        tri: [T], corners.
        ranges: [N], first triangle of each image and how many there are.
        instanced: Whether every image has positions of its own.
        width: Pixels.
        height: Pixels.
    """

    pos: wp.array2d(dtype=wp.vec4)
    tri: wp.array(dtype=wp.vec3i)
    ranges: wp.array(dtype=wp.vec2i)
    instanced: int
    width: int
    height: int


@wp.func
def corner(pos: wp.array2d(dtype=wp.vec4), image: int, vertex: int):
    """(x, y, w) of a vertex."""
    p = pos[image, vertex]
    return wp.vec3d(wp.float64(p[0]), wp.float64(p[1]), wp.float64(p[3]))


@wp.func
def triangle(pos: wp.array2d(dtype=wp.vec4), image: int, corners: wp.vec3i):
    """A triangle and its lines."""
    t = Triangle()
    t.a = corner(pos, image, corners[0])
    t.b = corner(pos, image, corners[1])
    t.c = corner(pos, image, corners[2])
    t.line_a = wp.cross(t.b, t.c)
    t.line_b = wp.cross(t.c, t.a)
    t.line_c = wp.cross(t.a, t.b)
    return t


@wp.func
def locate(scene: Scene, pixel: int):
    """Column, row and image of a pixel; x grows to the right, and y with the row."""
    row = pixel / scene.width
    return wp.vec3i(pixel % scene.width, row % scene.height, row / scene.height)


@wp.func
def pixel_centre(scene: Scene, x: int, y: int):
    """(X, Y, 1) of a pixel."""
    one = wp.float64(1.0)
    return wp.vec3d(centre(x, one / wp.float64(scene.width)), centre(y, one / wp.float64(scene.height)), one)


@wp.func
def centre(place: int, half: wp.float64):
    """A pixel's centre along an axis, in [-1, 1], from half of its width."""
    return wp.float64(2 * place + 1) * half - wp.float64(1.0)


@wp.func
def depth_plane(pos: wp.array2d(dtype=wp.vec4), image: int, corners: wp.vec3i, t: Triangle):
    """What gives z/w of a triangle at (X, Y, 1), by a dot product."""
    return (
        wp.float64(pos[image, corners[0]][2]) * t.line_a
        + wp.float64(pos[image, corners[1]][2]) * t.line_b
        + wp.float64(pos[image, corners[2]][2]) * t.line_c
    ) / wp.dot(t.line_a, t.a)


@wp.func
def are_vertices(corners: wp.vec3i, count: int):
    """Whether all three are vertices."""
    least = wp.min(corners[0], wp.min(corners[1], corners[2]))
    return least >= 0 and wp.max(corners[0], wp.max(corners[1], corners[2])) < count


@wp.func
def add_slopes(
    gradient: wp.array3d(dtype=wp.vec4), part: int, image: int, corners: wp.vec3i, t: Triangle, by_a: wp.vec3d,
    by_b: wp.vec3d, by_c: wp.vec3d,
):  # fmt: skip
    """Adds to the gradients of three positions, from those of the triangle's lines: the adjoint of `triangle`."""
    add_slope(gradient, part, image, corners[0], wp.cross(by_b, t.c) + wp.cross(t.b, by_c))
    add_slope(gradient, part, image, corners[1], wp.cross(by_c, t.a) + wp.cross(t.c, by_a))
    add_slope(gradient, part, image, corners[2], wp.cross(by_a, t.b) + wp.cross(t.a, by_b))


@wp.func
def add_slope(gradient: wp.array3d(dtype=wp.vec4), part: int, image: int, vertex: int, slope: wp.vec3d):
    """Adds to the gradient of a position; z has none."""
    wp.atomic_add(gradient, part, image, vertex, wp.vec4(float(slope[0]), float(slope[1]), 0.0, float(slope[2])))
