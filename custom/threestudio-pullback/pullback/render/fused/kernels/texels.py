"""Lookups in textures and cube maps: the four texels round a place, and their weights.

The faces of a cube map are OpenGL's: right, left, top, bottom, front, back, that is +x, −x, +y, −y, +z, −z. A texel
beyond the border of a face is the one of the next face that lies there; at a corner, where there is none, its weight
goes to the three others.
"""

from typing import Any

import warp as wp

WRAP, CLAMP, ZERO, CUBE = wp.constant(0), wp.constant(1), wp.constant(2), wp.constant(3)
_NONE, _CORNER = wp.constant(-1), wp.constant(-2)


@wp.struct
class Texture:
    """Texels of all levels.

    Attributes:
        texels: [images or 1, T, C].
        levels: [L, 3], first texel, rows and columns of a level, or of the six faces of a cube map's.
        boundary: What is beyond the border.
        nearest: 1 for the nearest texel alone.
    """

    texels: wp.array3d(dtype=float)
    levels: wp.array2d(dtype=int)
    boundary: int
    nearest: int


@wp.struct
class Quad:
    """Four texels, −1 for none, their weights, and the weights' derivatives by the place, in the texture's units."""

    at: wp.vec4i
    weight: wp.vec4
    by_s: wp.vec4
    by_t: wp.vec4


@wp.func
def face_of(d: wp.vec3):
    """The face of a cube that a direction meets."""
    x, y, z = wp.abs(d[0]), wp.abs(d[1]), wp.abs(d[2])
    if z > wp.max(x, y):
        return 4 + wp.where(d[2] < 0.0, 1, 0)
    if y > x:
        return 2 + wp.where(d[1] < 0.0, 1, 0)
    return wp.where(d[0] < 0.0, 1, 0)


@wp.func
def to_face(face: int, d: wp.vec3):
    """A vector in the coordinates of a face: along s, along t, and outward."""
    if face == 0:
        return wp.vec3(-d[2], -d[1], d[0])
    if face == 1:
        return wp.vec3(d[2], -d[1], -d[0])
    if face == 2:
        return wp.vec3(d[0], d[2], d[1])
    if face == 3:
        return wp.vec3(d[0], -d[2], -d[1])
    if face == 4:
        return wp.vec3(d[0], -d[1], d[2])
    return wp.vec3(-d[0], -d[1], -d[2])


@wp.func
def from_face(face: int, f: wp.vec3):
    """The inverse of `to_face`."""
    if face == 0:
        return wp.vec3(f[2], -f[1], -f[0])
    if face == 1:
        return wp.vec3(-f[2], -f[1], f[0])
    if face == 2:
        return wp.vec3(f[0], f[2], f[1])
    if face == 3:
        return wp.vec3(f[0], -f[2], -f[1])
    if face == 4:
        return wp.vec3(f[0], -f[1], f[2])
    return wp.vec3(-f[0], -f[1], -f[2])


@wp.func
def texel(texture: Texture, level: int, face: int, column: int, row: int):
    """The number of a texel, whose column or row may be one beyond the border."""
    first, rows, columns = texture.levels[level, 0], texture.levels[level, 1], texture.levels[level, 2]
    if texture.boundary == WRAP:
        return first + ((row % rows + rows) % rows) * columns + (column % columns + columns) % columns
    if texture.boundary == CLAMP:
        return first + wp.clamp(row, 0, rows - 1) * columns + wp.clamp(column, 0, columns - 1)
    out_of_row, out_of_column = column < 0 or column >= columns, row < 0 or row >= rows
    if texture.boundary == ZERO:
        return wp.where(out_of_row or out_of_column, _NONE, first + row * columns + column)
    if out_of_row and out_of_column:
        return _CORNER
    if not (out_of_row or out_of_column):
        return first + (face * rows + row) * columns + column
    n = float(columns)
    d = from_face(face, wp.vec3(float(2 * column + 1) / n - 1.0, float(2 * row + 1) / n - 1.0, 1.0))
    other = face_of(d)
    f = to_face(other, d)
    s, t = int((f[0] / f[2] + 1.0) * 0.5 * n), int((f[1] / f[2] + 1.0) * 0.5 * n)
    return first + (other * rows + wp.clamp(t, 0, rows - 1)) * columns + wp.clamp(s, 0, columns - 1)


@wp.func
def spread_corner(w: wp.vec4, missing: int):
    """Weights, that of a missing texel given to the others in equal parts."""
    part = w[missing] / 3.0
    out = w + wp.vec4(part, part, part, part)
    out[missing] = 0.0
    return out


@wp.func
def quad(texture: Texture, level: int, face: int, s: float, t: float):
    """The texels at (s, t), in [0, 1] inside."""
    q = Quad()
    rows, columns = texture.levels[level, 1], texture.levels[level, 2]
    if texture.nearest == 1:
        column, row = int(wp.floor(s * float(columns))), int(wp.floor(t * float(rows)))
        if texture.boundary == CUBE:
            column, row = wp.clamp(column, 0, columns - 1), wp.clamp(row, 0, rows - 1)
        q.at = wp.vec4i(texel(texture, level, face, column, row), _NONE, _NONE, _NONE)
        q.weight = wp.vec4(1.0, 0.0, 0.0, 0.0)
        return q
    x, y = s * float(columns) - 0.5, t * float(rows) - 0.5
    moves_x, moves_y = float(columns), float(rows)
    if texture.boundary == CLAMP:
        if x <= 0.0 or x >= float(columns - 1):
            moves_x = float(0.0)
        if y <= 0.0 or y >= float(rows - 1):
            moves_y = float(0.0)
        x, y = wp.clamp(x, 0.0, float(columns - 1)), wp.clamp(y, 0.0, float(rows - 1))
    column, row = int(wp.floor(x)), int(wp.floor(y))
    a, b = x - wp.floor(x), y - wp.floor(y)
    q.at = wp.vec4i(
        texel(texture, level, face, column, row), texel(texture, level, face, column + 1, row),
        texel(texture, level, face, column, row + 1), texel(texture, level, face, column + 1, row + 1),
    )  # fmt: skip
    q.weight = wp.vec4((1.0 - a) * (1.0 - b), a * (1.0 - b), (1.0 - a) * b, a * b)
    q.by_s = wp.vec4(b - 1.0, 1.0 - b, -b, b) * moves_x
    q.by_t = wp.vec4(a - 1.0, -a, 1.0 - a, a) * moves_y
    for k in range(4):
        if q.at[k] == _CORNER:
            q.weight = spread_corner(q.weight, k)
            q.by_s = spread_corner(q.by_s, k)
            q.by_t = spread_corner(q.by_t, k)
    return q


@wp.func
def place_of(texture: Texture, uv: wp.array2d(dtype=float), i: int):
    """(s, t) and the face, −1 for a direction that is none."""
    if texture.boundary != CUBE:
        s, t = float(uv[i, 0]), float(uv[i, 1])
        if texture.boundary == WRAP:
            s, t = s - wp.floor(s), t - wp.floor(t)
        return wp.vec3(s, t, 0.0)
    d = wp.vec3(uv[i, 0], uv[i, 1], uv[i, 2])
    face = face_of(d)
    f = to_face(face, d)
    s, t = (f[0] / f[2] + 1.0) * 0.5, (f[1] / f[2] + 1.0) * 0.5
    if not (wp.isfinite(s) and wp.isfinite(t)):
        return wp.vec3(0.0, 0.0, -1.0)
    return wp.vec3(s, t, float(face))


@wp.func
def add_texels(texture: Texture, own: int, q: Quad, share: float, i: int, out: wp.array2d(dtype=float)):
    """Adds what a quad shows."""
    for k in range(4):
        if q.at[k] >= 0:
            for c in range(out.shape[1]):
                out[i, c] += share * q.weight[k] * texture.texels[own, q.at[k], c]


@wp.kernel(enable_backward=False)
def look_up(
    texture: Texture, first: int, part: int, items: int, span: int, stride: int, pixels: int,
    uv: wp.array2d(dtype=float), level: wp.array(dtype=float), out: wp.array2d(dtype=float),
):  # fmt: skip
    """What the texture shows at places uv [P, 2 or 3] and levels [P], or [0] for the first one, [P, C]."""
    for item in range(first + wp.tid(), items, stride):
        own = wp.min(item * span / pixels, texture.texels.shape[0] - 1)
        for i in range(item * span, item * span + span):
            for c in range(out.shape[1]):
                out[i, c] = 0.0
            place = place_of(texture, uv, i)
            if place[2] >= 0.0:
                mix = float(0.0)
                if level.shape[0] > 0:
                    mix = level[i]
                low = int(mix)
                q = quad(texture, low, int(place[2]), place[0], place[1])
                add_texels(texture, own, q, 1.0 - (mix - float(low)), i, out)
                if mix > float(low):
                    q = quad(texture, low + 1, int(place[2]), place[0], place[1])
                    add_texels(texture, own, q, mix - float(low), i, out)


@wp.func
def add_texels_back(
    texture: Texture, part: int, own: int, q: Quad, share: float, i: int, by_out: wp.array2d(dtype=float),
    by_texels: wp.array4d(dtype=float),
):  # fmt: skip
    """The adjoint of `add_texels`; returns the gradients of s, t and the share."""
    g = wp.vec3()
    for k in range(4):
        if q.at[k] >= 0:
            dot = float(0.0)
            for c in range(by_out.shape[1]):
                dot += by_out[i, c] * texture.texels[own, q.at[k], c]
                wp.atomic_add(by_texels, part, own, q.at[k], c, share * q.weight[k] * by_out[i, c])
            g += dot * wp.vec3(share * q.by_s[k], share * q.by_t[k], q.weight[k])
    return g


@wp.kernel(enable_backward=False)
def look_up_back(
    texture: Texture, first: int, part: int, items: int, span: int, stride: int, pixels: int,
    uv: wp.array2d(dtype=float), level: wp.array(dtype=float), by_out: wp.array2d(dtype=float),
    by_texels: wp.array4d(dtype=float), by_uv: wp.array2d(dtype=float), by_level: wp.array(dtype=float),
):  # fmt: skip
    """The gradients of texels [parts, images or 1, T, C], places and levels: the adjoint of `look_up`."""
    for item in range(first + wp.tid(), items, stride):
        own = wp.min(item * span / pixels, texture.texels.shape[0] - 1)
        for i in range(item * span, item * span + span):
            place, g = place_of(texture, uv, i), wp.vec3()
            if place[2] >= 0.0:
                mix = float(0.0)
                if level.shape[0] > 0:
                    mix = level[i]
                low = int(mix)
                q = quad(texture, low, int(place[2]), place[0], place[1])
                g = add_texels_back(texture, part, own, q, 1.0 - (mix - float(low)), i, by_out, by_texels)
                if low + 1 < texture.levels.shape[0]:
                    q = quad(texture, low + 1, int(place[2]), place[0], place[1])
                    h = add_texels_back(texture, part, own, q, mix - float(low), i, by_out, by_texels)
                    g = wp.vec3(g[0] + h[0], g[1] + h[1], h[2] - g[2])
                else:
                    g = wp.vec3(g[0], g[1], 0.0)
            if level.shape[0] > 0:
                by_level[i] = g[2]
            if texture.boundary == CUBE:
                slope = wp.vec3()
                if place[2] >= 0.0:
                    face = int(place[2])
                    f = to_face(face, wp.vec3(uv[i, 0], uv[i, 1], uv[i, 2]))
                    # of (f_s / f_out + 1) / 2 and (f_t / f_out + 1) / 2
                    a, b = g[0] * 0.5 / f[2], g[1] * 0.5 / f[2]
                    slope = from_face(face, wp.vec3(a, b, -(a * f[0] + b * f[1]) / f[2]))
                for k in range(3):
                    by_uv[i, k] = slope[k]
            else:
                by_uv[i, 0] = g[0]
                by_uv[i, 1] = g[1]


KERNELS: tuple[Any, ...] = (look_up, look_up_back)
