"""What a pixel shows of its triangle: barycentric coordinates, their derivatives, and attributes of the corners.

With the lines of `triangles`, e_i = line_i · (X, Y, 1) and S = Σ e_i, the coordinates are u = e_a/S and v = e_b/S; they
are those of the triangle in space, also under perspective. ∂u/∂X = (∂e_a/∂X − u ∂S/∂X)/S. A pixel is 2/width wide.
"""

from typing import Any

import warp as wp

from .coverage import NOTHING
from .triangles import (
    NEAREST_AREA,
    Scene,
    Triangle,
    add_slopes,
    are_vertices,
    centre,
    depth_plane,
    locate,
    pixel_centre,
    triangle,
)


@wp.func
def reciprocal(area: wp.float64, least: wp.float64):
    """1 / area, at most 1 / least."""
    if area > -least and area < least:
        return wp.where(area < wp.float64(0.0), -wp.float64(1.0), wp.float64(1.0)) / least
    return wp.float64(1.0) / area


@wp.func_native(
    """
    auto dot = [&](const wp::vec3d& line) { return line[0] * x + line[1] * y + line[2]; };
    const double a = dot(t.line_a), b = dot(t.line_b), c = dot(t.line_c), inverse = 1.0 / (a + b + c);
    double u = a * inverse, v = b * inverse, z = dot(depth);
    u = u < 0.0 ? 0.0 : (u > 1.0 ? 1.0 : u);
    v = v < 0.0 ? 0.0 : (v > 1.0 - u ? 1.0 - u : v);
    z = z < -1.0 ? -1.0 : (z > 1.0 ? 1.0 : z);
    const double whole_x = t.line_a[0] + t.line_b[0] + t.line_c[0], whole_y = t.line_a[1] + t.line_b[1] + t.line_c[1];
    const double wide = 2.0 * across * inverse, high = 2.0 * up * inverse;
    rast.data[i] = wp::vec4((float)u, (float)v, (float)z, (float)number);
    slopes.data[i] = wp::vec4(
        (float)((t.line_a[0] - u * whole_x) * wide), (float)((t.line_a[1] - u * whole_y) * high),
        (float)((t.line_b[0] - v * whole_x) * wide), (float)((t.line_b[1] - v * whole_y) * high));
"""
)
def shade_pixel(
    t: Triangle, depth: wp.vec3d, x: wp.float64, y: wp.float64, across: wp.float64, up: wp.float64, number: int, i: int,
    rast: wp.array(dtype=wp.vec4), slopes: wp.array(dtype=wp.vec4),
):  # fmt: skip
    """Fills in a pixel that shows a triangle; `across` and `up` are halves of its sides."""
    ...


@wp.kernel(enable_backward=False)
def shade(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, keys: wp.array(dtype=wp.int64),
    rast: wp.array(dtype=wp.vec4), slopes: wp.array(dtype=wp.vec4),
):  # fmt: skip
    """Coordinates (u, v, z/w, number of the triangle from 1 on) and slopes (∂u/∂x, ∂u/∂y, ∂v/∂x, ∂v/∂y) by pixel."""
    one = wp.float64(1.0)
    across, up = one / wp.float64(scene.width), one / wp.float64(scene.height)
    for item in range(first + wp.tid(), items, stride):
        begin = item * span
        place = locate(scene, begin)
        row = centre(place[1], up)
        own, last, t, depth = scene.instanced * place[2], int(0), Triangle(), wp.vec3d()
        for k in range(span):
            key = keys[begin + k]
            if key == NOTHING:
                rast[begin + k] = wp.vec4()
                slopes[begin + k] = wp.vec4()
            else:
                number = int(key & wp.int64(0xFFFFFF))
                if number != last:  # the next pixel often shows the same
                    corners = scene.tri[number - 1]
                    t = triangle(scene.pos, own, corners)
                    depth = depth_plane(scene.pos, own, corners, t)
                    last = number
                column = centre(place[0] + k, across)
                shade_pixel(t, depth, column, row, across, up, number, begin + k, rast, slopes)


@wp.struct
class Slopes:
    """The gradients of a triangle's lines."""

    a: wp.vec3d
    b: wp.vec3d
    c: wp.vec3d


@wp.func
def unshade_pixel(scene: Scene, t: Triangle, x: int, y: int, g: wp.vec4, h: wp.vec4):
    """A pixel's part of the gradients of a triangle's lines; g is that of `rast`, h that of `slopes`."""
    at = pixel_centre(scene, x, y)
    whole = t.line_a + t.line_b + t.line_c
    inverse = reciprocal(wp.dot(whole, at), wp.float64(NEAREST_AREA))
    u, v = wp.dot(t.line_a, at) * inverse, wp.dot(t.line_b, at) * inverse
    to_u, to_v = wp.float64(g[0]) * inverse, wp.float64(g[1]) * inverse
    out = Slopes()
    if wp.dot(h, h) == 0.0:
        rest = (-u * to_u - v * to_v) * at
        out.a = rest + to_u * at
        out.b = rest + to_v * at
        out.c = rest
        return out
    across, up = wp.float64(2.0) / wp.float64(scene.width), wp.float64(2.0) / wp.float64(scene.height)
    # those of (line_a - u whole) / S and (line_b - v whole) / S
    by_u = wp.vec3d(wp.float64(h[0]) * across, wp.float64(h[1]) * up, wp.float64(0.0)) * inverse
    by_v = wp.vec3d(wp.float64(h[2]) * across, wp.float64(h[3]) * up, wp.float64(0.0)) * inverse
    slope_u, slope_v = t.line_a - u * whole, t.line_b - v * whole
    to_u -= wp.dot(by_u, whole) * inverse
    to_v -= wp.dot(by_v, whole) * inverse
    to_sum = -u * to_u - v * to_v - (wp.dot(by_u, slope_u) + wp.dot(by_v, slope_v)) * inverse
    rest = to_sum * at - u * by_u - v * by_v
    out.a = rest + to_u * at + by_u
    out.b = rest + to_v * at + by_v
    out.c = rest
    return out


@wp.kernel(enable_backward=False)
def unshade(
    scene: Scene, first: int, part: int, items: int, span: int, stride: int, rast: wp.array(dtype=wp.vec4),
    by_rast: wp.array(dtype=wp.vec4), by_slopes: wp.array(dtype=wp.vec4), with_slopes: int,
    gradient: wp.array3d(dtype=wp.vec4),
):  # fmt: skip
    """The gradient of the positions [parts, images, V]: the adjoint of `shade`."""
    for item in range(first + wp.tid(), items, stride):
        begin = item * span
        place = locate(scene, begin)
        own, last, t, total = scene.instanced * place[2], int(0), Triangle(), Slopes()
        for k in range(span):
            i = begin + k
            number = int(rast[i][3])
            g, h = by_rast[i], wp.vec4()
            if with_slopes == 1:
                h = by_slopes[i]
            if number > 0 and (g[0] != 0.0 or g[1] != 0.0 or wp.dot(h, h) != 0.0):
                if number != last:
                    if last > 0:
                        add_slopes(gradient, part, own, scene.tri[last - 1], t, total.a, total.b, total.c)
                    t = triangle(scene.pos, own, scene.tri[number - 1])
                    total = Slopes()
                    last = number
                more = unshade_pixel(scene, t, place[0] + k, place[1], g, h)
                total.a += more.a
                total.b += more.b
                total.c += more.c
        if last > 0:
            add_slopes(gradient, part, own, scene.tri[last - 1], t, total.a, total.b, total.c)


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
        own = wp.min(item * span / pixels, attributes.shape[0] - 1)
        for i in range(item * span, item * span + span):
            r = rast[i]
            number = int(r[3])
            if has_attributes(tri, number, attributes.shape[1]):
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
        own = wp.min(item * span / pixels, attributes.shape[0] - 1)
        for i in range(item * span, item * span + span):
            r = rast[i]
            number = int(r[3])
            u, v = float(0.0), float(0.0)
            if has_attributes(tri, number, attributes.shape[1]):
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
