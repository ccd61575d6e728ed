"""Charts of a surface in the unit square, by xatlas."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ConfigError


def unwrap(
    vertices: np.ndarray, faces: np.ndarray, chart_options: dict[str, Any], pack_options: dict[str, Any], size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Charts of a mesh.

    Args:
        vertices: [N, 3].
        faces: [M, 3] indices into them.
        chart_options: Fields of xatlas's ChartOptions.
        pack_options: Fields of its PackOptions; where they are not set, `resolution` is `size` and `padding` is 2.
        size: Width of the texture.

    Returns:
        v_tex [K, 2], v down from the top as in glTF, and t_tex_idx [M, 3] int64, indices into it.
    """
    import xatlas

    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    _set(charts, chart_options, "xatlas_chart_options")
    _set(packing, {"resolution": size, "padding": 2, **pack_options}, "xatlas_pack_options")
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    atlas.generate(charts, packing)
    _, indices, uvs = atlas[0]
    return uvs.copy(), indices.astype(np.int64)


def check_options(chart_options: dict[str, Any], pack_options: dict[str, Any]) -> None:
    """Raises ConfigError where xatlas has no option of a name, or wants another type."""
    if chart_options or pack_options:
        import xatlas

        _set(xatlas.ChartOptions(), chart_options, "xatlas_chart_options")
        _set(xatlas.PackOptions(), pack_options, "xatlas_pack_options")


def _set(target: Any, options: dict[str, Any], key: str) -> None:
    for name, value in options.items():
        known = sorted(field for field in dir(target) if not field.startswith("_"))
        if name not in known:
            raise ConfigError(f"{key}.{name}", f"is no option of xatlas; known are {', '.join(known)}")
        kind = type(getattr(target, name)).__name__
        try:
            setattr(target, name, value)
        except TypeError as e:
            raise ConfigError(f"{key}.{name}", f"must be of type {kind}, not {value!r}") from e
