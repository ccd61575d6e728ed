"""`mesh-exporter`: the geometry's outer surface with the colours that its renders show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, UserError, check_at_least
from ...meshes.charts import check_options
from ...output.mesh_files import AXES, UP
from ..base import BaseObject
from ..config import config_path
from ..registry import info, register, warn
from .appearance import surface_colours
from .simplify import simplify
from .texture import bake, unwrap

FORMATS = {"obj-mtl": "obj", "obj": "obj", "glb": "glb", "ply": "ply"}
_FEWEST_FACES = 100


@dataclass
class ExporterOutput:
    """One file to write: its name, which `save_<save_type>` writes it, and what that takes."""

    save_name: str
    save_type: str
    params: dict[str, Any]


class Exporter(BaseObject):
    """A part that says which files an export writes."""

    role = "exporter"

    @dataclass
    class Config(BaseObject.Config):
        save_video: bool = False

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Takes the scene to export."""
        self.geometry, self.material, self.background = geometry, material, background

    def __call__(self) -> list[ExporterOutput]:
        """Override: the files to write."""
        raise NotImplementedError


@register("dummy-exporter")
class DummyExporter(Exporter):
    """Writes nothing."""

    def __call__(self) -> list[ExporterOutput]:
        """No file."""
        return []


@register("mesh-exporter")
class MeshExporter(Exporter):
    """Writes `save_name`.obj with a mtl ("obj-mtl") or without, `save_name`.glb or `save_name`.ply.

    The keys are threestudio's; `faces`, glb and ply are this exporter's own. obj-mtl has its colours in a texture, obj
    and ply at the vertices, and glb in a texture with `save_uv`, else at the vertices. The object stands upright, with
    its front to the viewer, in the axes of each format.
    """

    @dataclass
    class Config(Exporter.Config):
        fmt: str = "obj-mtl"  # one of FORMATS
        save_name: str = "model"
        faces: int = 20000  # the most triangles; 0: as many as the surface has
        save_texture: bool = True  # colours
        save_normal: bool = True
        save_uv: bool = True  # texture coordinates, by xatlas
        texture_size: int = 1024
        texture_format: str = "jpg"  # or "png"
        xatlas_chart_options: dict = field(default_factory=dict)
        xatlas_pack_options: dict = field(default_factory=dict)
        context_type: str = "gl"  # threestudio's rasteriser; textures are made on the CPU here

        def __post_init__(self) -> None:
            if self.fmt not in FORMATS:
                raise ConfigError("fmt", f"must be one of {', '.join(FORMATS)}, not '{self.fmt}'")
            if not self.save_name.strip(".") or "/" in self.save_name:
                raise ConfigError("save_name", f"must be a file's name without a folder, not '{self.save_name}'")
            if self.texture_format not in ("jpg", "png"):
                raise ConfigError("texture_format", f"must be 'jpg' or 'png', not '{self.texture_format}'")
            if self.context_type not in ("gl", "cuda"):
                raise ConfigError("context_type", f"must be 'gl' or 'cuda', not '{self.context_type}'")
            if self.fmt == "obj-mtl" and self.save_texture and not self.save_uv:
                raise ConfigError("save_uv", "must be true where fmt is obj-mtl and save_texture is true")
            if self.faces and not self.faces >= _FEWEST_FACES:
                raise ConfigError("faces", f"must be 0 (all) or at least {_FEWEST_FACES}, not {self.faces}")
            check_at_least(self, 8, "texture_size")
            check_options(self.xatlas_chart_options, self.xatlas_pack_options)

    @torch.no_grad()
    def __call__(self) -> list[ExporterOutput]:
        """The one file; raises UserError where the geometry has no surface."""
        cfg, kind = self.cfg, FORMATS[self.cfg.fmt]
        if not hasattr(self.geometry, "isosurface"):
            raise UserError(
                "`system.geometry_type` names a geometry that has no surface, so there is no mesh to export"
            )
        in_texture = cfg.save_texture and cfg.save_uv and cfg.fmt in ("obj-mtl", "glb")
        at_vertices = cfg.save_texture and not in_texture
        mesh, normals = simplify(self.geometry.isosurface(), cfg.faces, at_vertices)
        turn = torch.tensor(AXES[UP[kind]], dtype=mesh.v_pos.dtype, device=mesh.v_pos.device)
        params: dict[str, Any] = {
            "v_pos": mesh.v_pos @ turn.T,
            "t_pos_idx": mesh.t_pos_idx,
            "v_rgb": None,
            "v_nrm": normals @ turn.T if cfg.save_normal else None,
            "material": cfg.fmt == "obj-mtl",
        }
        if cfg.save_uv and kind != "ply":
            info("Cutting the surface into charts, which may take some seconds")
            options = cfg.xatlas_chart_options, cfg.xatlas_pack_options
            params["v_tex"], params["t_tex_idx"] = unwrap(mesh, *options, cfg.texture_size)
        if in_texture:
            charts = params["v_tex"], params["t_tex_idx"]
            params["texture"] = bake(mesh, normals, *charts, cfg.texture_size, self._colours)
            params["texture_format"] = cfg.texture_format
        if at_vertices:
            params["v_rgb"] = self._colours(mesh.v_pos, normals)
        if cfg.save_texture and params["v_rgb"] is None and params.get("texture") is None:
            warn("`%s` is true, but the material has no colours", config_path(cfg, "save_texture"))
        return [ExporterOutput(f"{cfg.save_name}.{kind}", "mesh", params)]

    def _colours(self, points: Tensor, normals: Tensor) -> Tensor | None:
        return surface_colours(self.geometry, self.material, points, normals)
