"""What a pixel shows of its triangle: barycentric coordinates, their derivatives, and attributes of the corners.

With the lines of `triangles`, e_i = line_i · (X, Y, 1) and S = Σ e_i, the coordinates are u = e_a/S and v = e_b/S; they
are those of the triangle in space, also under perspective. ∂u/∂X = (∂e_a/∂X − u ∂S/∂X)/S. A pixel is 2/width wide.
"""

from typing import Any

import warp as wp

from .coverage import NOTHING
from .triangles import NEAREST_AREA, Scene, add_slopes, are_vertices, pixel_centre, triangle


@wp.func
def reciprocal(area: wp.float64, least: wp.float64):
    """1 / area, at most 1 / least."""
    if area > -least and area < least:
        return wp.where(area < wp.float64(0.0), -wp.float64(1.0), wp.float64(1.0)) / least
    return wp.float64(1.0) / area


@wp.func
def shade_pixel(
    scene: Scene, keys: wp.array(dtype=wp.int64), i: int, rast: wp.array(dtype=wp.vec4), slopes: wp.array(dtype=wp.vec4)
):
    """Fills in a pixel."""
    if keys[i] == NOTHING:
        rast[i] = wp.vec4()
        slopes[i] = wp.vec4()
        return
    number = int(keys[i] & wp.int64(0xFFFFFF))
    own = scene.instanced * (i / (scene.width * scene.height))
    corners = scene.tri[number - 1]
    t = triangle(scene.pos, own, corners)
    x = pixel_centre(scene, i)
    a, b, c = wp.dot(t.line_a, x), wp.dot(t.line_b, x), wp.dot(t.line_c, x)
    whole = t.line_a + t.line_b + t.line_c
    inverse = wp.float64(1.0) / (a + b + c)
    u = wp.clamp(a * inverse, wp.float64(0.0), wp.float64(1.0))
    v = wp.clamp(b * inverse, wp.float64(0.0), wp.float64(1.0) - u)
    z = (
        wp.float64(scene.pos[own, corners[0]][2]) * a
        + wp.float64(scene.pos[own, corners[1]][2]) * b
        + wp.float64(scene.pos[own, corners[2]][2]) * c
    ) / (t.a[2] * a + t.b[2] * b + t.c[2] * c)
    z = wp.clamp(z, -wp.float64(1.0), wp.float64(1.0))
    rast[i] = wp.vec4(float(u), float(v), float(z), float(number))
    by_u, by_v = (t.line_a - u * whole) * inverse, (t.line_b - v * whole) * inverse
    across, up = wp.float64(2.0) / wp.float64(scene.width), wp.float64(2.0) / wp.float64(scene.height)
    slopes[i] = wp.vec4(float(by_u[0] * across), float(by_u[1] * up), float(by_v[0] * across), float(by_v[1] * up))


@wp.kernel(enable_backward=False)
def shade(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, keys: wp.array(dtype=wp.int64),
    rast: wp.array(dtype=wp.vec4), slopes: wp.array(dtype=wp.vec4),
):  # fmt: skip
    """Coordinates (u, v, z/w, number of the triangle from 1 on) and slopes (∂u/∂x, ∂u/∂y, ∂v/∂x, ∂v/∂y) by pixel."""
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            shade_pixel(scene, keys, i, rast, slopes)


@wp.func
def unshade_pixel(
    scene: Scene, part: int, i: int, number: int, g: wp.vec4, h: wp.vec4, gradient: wp.array3d(dtype=wp.vec4)
):
    """Adds a pixel's part to the gradients of three positions; g is that of `rast`, h that of `slopes`."""
    own = scene.instanced * (i / (scene.width * scene.height))
    corners = scene.tri[number - 1]
    t = triangle(scene.pos, own, corners)
    x = pixel_centre(scene, i)
    whole = t.line_a + t.line_b + t.line_c
    inverse = reciprocal(wp.dot(whole, x), wp.float64(NEAREST_AREA))
    u, v = wp.dot(t.line_a, x) * inverse, wp.dot(t.line_b, x) * inverse
    across, up = wp.float64(2.0) / wp.float64(scene.width), wp.float64(2.0) / wp.float64(scene.height)
    # those of (line_a - u whole) / S and (line_b - v whole) / S
    by_u = wp.vec3d(wp.float64(h[0]) * across, wp.float64(h[1]) * up, wp.float64(0.0)) * inverse
    by_v = wp.vec3d(wp.float64(h[2]) * across, wp.float64(h[3]) * up, wp.float64(0.0)) * inverse
    slope_u, slope_v = t.line_a - u * whole, t.line_b - v * whole
    to_u = (wp.float64(g[0]) - wp.dot(by_u, whole)) * inverse
    to_v = (wp.float64(g[1]) - wp.dot(by_v, whole)) * inverse
    to_sum = -u * to_u - v * to_v - (wp.dot(by_u, slope_u) + wp.dot(by_v, slope_v)) * inverse
    rest = to_sum * x - u * by_u - v * by_v
    add_slopes(gradient, part, own, corners, t, rest + to_u * x + by_u, rest + to_v * x + by_v, rest)


@wp.kernel(enable_backward=False)
def unshade(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, rast: wp.array(dtype=wp.vec4),
    by_rast: wp.array(dtype=wp.vec4), by_slopes: wp.array(dtype=wp.vec4), with_slopes: int,
    gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """The gradient of the positions [parts, images, V]: the adjoint of `shade`."""
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            number = int(rast[i][3])
            g, h = by_rast[i], wp.vec4()
            if with_slopes == 1:
                h = by_slopes[i]
            if number > 0 and (g[0] != 0.0 or g[1] != 0.0 or wp.dot(h, h) != 0.0):
                unshade_pixel(scene, part, i, number, g, h, gradient)


@wp.func
def has_attributes(tri: wp.array(dtype=wp.vec3i), number: int, vertices: int):
    """Whether a pixel shows a triangle all of whose corners are among the vertices."""
    return number > 0 and number <= tri.shape[0] and are_vertices(tri[number - 1], vertices)


@wp.func
def blend_pixel(
    attributes: wp.array3d(dtype=float), own: int, corners: wp.vec3i, r: wp.vec4, w: float, i: int,
    out: wp.array2d(dtype=float),
):  # fmt: skip
    """The attributes of a pixel."""
    for k in range(out.shape[1]):
        a, b = attributes[own, corners[0], k], attributes[own, corners[1], k]
        out[i, k] = r[0] * a + r[1] * b + w * attributes[own, corners[2], k]


@wp.kernel(enable_backward=False)
def interpolate(
    tri: wp.array(dtype=wp.vec3i), first: int, part: int, items: int, span: int, stride: int, pixels: int,
    whole: float, rast: wp.array(dtype=wp.vec4), attributes: wp.array3d(dtype=float), out: wp.array2d(dtype=float),
):  # fmt: skip
    """Attributes [images or 1, V, A] of the corners at each pixel, [P, A]; 0 where nothing is.

    An image has `pixels`. Weights of the corners are u, v and whole − u − v.
    """
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            r = rast[i]
            number = int(r[3])
            if has_attributes(tri, number, attributes.shape[1]):
                own = wp.min(i / pixels, attributes.shape[0] - 1)
                blend_pixel(attributes, own, tri[number - 1], r, whole - r[0] - r[1], i, out)
            else:
                for k in range(out.shape[1]):
                    out[i, k] = 0.0


@wp.kernel(enable_backward=False)
def uninterpolate(
    tri: wp.array(dtype=wp.vec3i), first: int, part: int, items: int, span: int, stride: int, pixels: int,
    whole: float, rast: wp.array(dtype=wp.vec4), attributes: wp.array3d(dtype=float), by_out: wp.array2d(dtype=float),
    by_attributes: wp.array4d(dtype=float), by_rast: wp.array(dtype=wp.vec4),
):  # fmt: skip
    """The gradients of the attributes [parts, images or 1, V, A] and of `rast`: the adjoint of `interpolate`."""
    for item in range(first + wp.tid(), items, stride):
        for i in range(item * span, item * span + span):
            r = rast[i]
            number = int(r[3])
            u, v = float(0.0), float(0.0)
            if has_attributes(tri, number, attributes.shape[1]):
                own = wp.min(i / pixels, attributes.shape[0] - 1)
                corners = tri[number - 1]
                for k in range(by_out.shape[1]):
                    g = by_out[i, k]
                    last = attributes[own, corners[2], k]
                    u += g * (attributes[own, corners[0], k] - last)
                    v += g * (attributes[own, corners[1], k] - last)
                    wp.atomic_add(by_attributes, part, own, corners[0], k, r[0] * g)
                    wp.atomic_add(by_attributes, part, own, corners[1], k, r[1] * g)
                    wp.atomic_add(by_attributes, part, own, corners[2], k, (whole - r[0] - r[1]) * g)
            by_rast[i] = wp.vec4(u, v, 0.0, 0.0)


KERNELS: tuple[Any, ...] = (shade, unshade, interpolate, uninterpolate)
