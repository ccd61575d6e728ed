"""Stand-in for envlight: light from an environment map, filtered for diffuse and for rough surfaces.

As there, a cube map is filtered once for the cosine and, on levels of falling size, for lobes of rising roughness; a
lookup mixes two levels. The lobes are GGX's, the view along the normal, taken from the map's own levels (Karis 2013,
"Real Shading in Unreal Engine 4"; Křivánek and Colbert 2008 for the level of a sample).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pullback.errors import UserError
from pullback.render.textures import construct_mip, texture
from torch import Tensor, nn
from torch.nn.functional import normalize

_SAMPLES = 128


class EnvLight(nn.Module):
    """Light by direction.

    Args:
        path: A picture of all directions, its height the polar angle; black without one. HDR or 8 bits.
        device: Where.
        scale: Factor of its values.
        min_res: Side of the coarsest level.
        max_res: Side of the finest level.
        min_roughness: Of the finest level.
        max_roughness: Of the coarsest but one; the coarsest has 1.
        trainable: Must be False.
    """

    def __init__(
        self,
        path: str | None = None,
        device: Any = "cpu",
        scale: float = 1.0,
        min_res: int = 16,
        max_res: int = 128,
        min_roughness: float = 0.08,
        max_roughness: float = 0.5,
        trainable: bool = False,
    ) -> None:
        super().__init__()
        if trainable:
            raise UserError("the stand-in for envlight has only `trainable=False`; leave it out")
        self.scale, self.min_res, self.max_res = scale, min_res, max_res
        self.min_roughness, self.max_roughness = min_roughness, max_roughness
        base = torch.zeros(6, max_res, max_res, 3) if path is None else self._read(path)
        self.base = nn.Parameter(base, requires_grad=False)
        self.build_mips()
        self.to(device if torch.device(device).type != "cuda" or torch.cuda.is_available() else "cpu")

    def _read(self, path: str) -> Tensor:
        import cv2  # one of threestudio's requirements

        picture = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        if picture is None:
            raise UserError(
                f"{path} cannot be read as a picture; name an .hdr file as system.material.environment_texture"
            )
        light = torch.from_numpy(picture[..., 2::-1].copy())
        light = light.float() / (1 if picture.dtype.kind == "f" else 255)
        d = normalize(directions(self.max_res), dim=-1)
        around = torch.atan2(d[..., 0], -d[..., 2]) / (2 * math.pi) + 0.5
        polar = d[..., 1].clamp(-1, 1).acos() / math.pi
        return texture(light[None] * self.scale, torch.stack([around, polar], -1).flatten(0, 1)[None])[0].view_as(d)

    def build_mips(self) -> None:
        """Filters the map."""
        levels = [self.base.detach()[None]]
        levels += construct_mip(levels[0], max(1, round(math.log2(self.max_res / self.min_res))), cube_mode=True)
        steps = max(1, len(levels) - 2)
        spread = (self.max_roughness - self.min_roughness) / steps
        rough = [self.min_roughness + spread * k for k in range(len(levels) - 1)]
        specular = [_filtered(levels, k, r) for k, r in enumerate([*rough, 1.0])]
        self.diffuse, self.specular = _diffuse(levels[-1]), [level[0] for level in specular]

    def get_mip(self, roughness: Tensor) -> Tensor:
        """The level of a roughness: straight between those of the levels."""
        last = len(self.specular) - 1
        low = (roughness.clamp(self.min_roughness, self.max_roughness) - self.min_roughness) / (
            self.max_roughness - self.min_roughness
        )
        high = (roughness.clamp(self.max_roughness, 1) - self.max_roughness) / (1 - self.max_roughness)
        return low * (last - 1) + high

    def forward(self, l: Tensor, roughness: Tensor | None = None) -> Tensor:
        """Light [..., 3] from directions [..., 3]; as a surface of a roughness [..., 1] mirrors it, or diffuse."""
        d = l.reshape(1, -1, 1, 3)
        if roughness is None:
            light = texture(self.diffuse[None].to(d), d, filter_mode="linear", boundary_mode="cube")
        else:
            finest, *rest = [level[None].to(d) for level in self.specular]
            mip = self.get_mip(roughness.reshape(1, -1, 1))
            light = texture(finest, d, None, mip, rest, "linear-mipmap-linear", "cube")
        return light.view(*l.shape[:-1], 3)


def directions(side: int) -> Tensor:
    """Of the texels of a cube map, [6, side, side, 3], by OpenGL's table of faces."""
    t, s = torch.meshgrid(*[(2 * torch.arange(side) + 1) / side - 1] * 2, indexing="ij")
    one = torch.ones_like(s)
    faces = [(one, -t, -s), (-one, -t, s), (s, one, t), (s, -one, -t), (s, -t, one), (-s, -t, -one)]
    return torch.stack([torch.stack(face, -1) for face in faces])


def solid_angles(side: int) -> Tensor:
    """Of the texels of a face, [side, side]: exact, by ∫∫ (1 + s² + t²)^(-3/2) = atan2(st, √(1 + s² + t²))."""
    edge = 2 * torch.arange(side + 1, dtype=torch.float64) / side - 1
    s, t = edge[None, :], edge[:, None]
    corner = torch.atan2(s * t, (1 + s**2 + t**2).sqrt())
    return (corner[1:, 1:] - corner[1:, :-1] - corner[:-1, 1:] + corner[:-1, :-1]).float()


def _diffuse(level: Tensor) -> Tensor:
    """∫ L cos / π over the half space of each texel's direction, [6, side, side, 3]."""
    side = level.shape[2]
    d = normalize(directions(side), dim=-1).view(-1, 3)
    weights = (d @ d.T).clamp(min=0) * solid_angles(side).expand(6, side, side).reshape(-1)
    weights = weights / weights.sum(1, keepdim=True)
    return (weights @ level.reshape(-1, 3)).view(6, side, side, 3)


def _filtered(levels: list[Tensor], k: int, roughness: float) -> Tensor:
    """Level k with a GGX lobe about each texel's direction, [1, 6, side, side, 3]."""
    side, alpha = levels[k].shape[2], roughness**2
    index = torch.arange(_SAMPLES)
    first = (index + 0.5) / _SAMPLES
    turn = 2 * math.pi * (index * 0.6180339887498949 % 1)
    cosine = ((1 - first) / (1 + (alpha**2 - 1) * first)).sqrt()  # of half vectors, in proportion to D · cos
    sine = (1 - cosine**2).clamp(min=0).sqrt()
    half = torch.stack([sine * turn.cos(), sine * turn.sin(), cosine], -1)
    light = 2 * cosine[:, None] * half - half.new_tensor([0, 0, 1])
    seen = light[:, 2] > 0
    light, cosine = light[seen], cosine[seen]
    density = (
        alpha**2 / (math.pi * ((alpha**2 - 1) * cosine**2 + 1) ** 2) / 4
    )  # of directions, the view being the normal
    finest = 4 * math.pi / (6 * levels[0].shape[2] ** 2)
    mip = (1 / (_SAMPLES * density * finest)).log2() / 2 + 1
    normal = normalize(directions(side), dim=-1).view(-1, 3)
    up = torch.where(normal[:, 2:].abs() < 0.9, normal.new_tensor([0, 0, 1]), normal.new_tensor([1, 0, 0]))
    across = normalize(torch.linalg.cross(up, normal), dim=-1)
    frame = torch.stack([across, torch.linalg.cross(normal, across), normal], 1)
    total = torch.zeros(1, 1, len(normal), 3)
    for d, level in zip(light, mip, strict=True):
        places = (d @ frame)[None, None]
        shown = texture(levels[0], places, None, level.expand(1, 1, len(normal)), levels[1:], boundary_mode="cube")
        total += d[2] * shown
    return (total / light[:, 2].sum()).view(1, 6, side, side, 3)
