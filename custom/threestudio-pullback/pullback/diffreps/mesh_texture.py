"""The texture of a given mesh, seen from any camera: linear in its texels."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..views.cameras import camera_rays
from ..views.hits import first_hit
from ..views.reading import read_poses
from .coordinates import check_sizes


class MeshTexture(nn.Module):
    """f(θ, π) = A(π) θ + b(π): θ the texture, A sparse with four bilinear weights a point, b the background.

    Each pixel is the mean of `samples`² points, so silhouettes are smooth. There is no light: the texels
    hold all that is shown. Texels that no view shows have no column in A; a fit of least norm leaves them alone. The
    `footprints` of the last views are kept, since a fit renders the same views many times. Starts at 0 (mid-grey).

    Args:
        vertices: [N,3], in a world with z up.
        faces: [M,3] indices into them, in any orientation.
        coordinates: [M,3,2], (s, t) of each corner of each face in [0, 1]; (0, 0) is the outer corner of the first
            texel of row 0, as in glTF.
        resolution: R, texels a side.
        height: Rows of a render.
        width: Columns of a render.
        channels: C.
        fovy: Vertical angle of view in radians, for views that bring none.
        background: What is seen beside the mesh, in [−1, 1].
        samples: Points of a pixel along each side.

    Raises:
        UserError: A size is below 1, fovy is outside (0, π), or the mesh has no faces or other shapes.
    """

    triangles: Tensor
    coordinates: Tensor

    def __init__(
        self,
        vertices: Tensor,
        faces: Tensor,
        coordinates: Tensor,
        resolution: int = 64,
        height: int = 24,
        width: int = 24,
        channels: int = 3,
        fovy: float = 0.7,
        background: float = 1.0,
        samples: int = 1,
    ):
        super().__init__()
        check_sizes(type(self).__name__, resolution=resolution, height=height, width=width, channels=channels,
                    samples=samples)  # fmt: skip
        if not 0 < fovy < math.pi:
            raise UserError(f"MeshTexture needs fovy in (0, pi) radians, not {fovy}")
        if faces.ndim != 2 or faces.shape[1:] != (3,) or len(faces) == 0 or coordinates.shape != (len(faces), 3, 2):
            raise UserError(
                "MeshTexture takes faces [M,3] and the texture coordinates of their corners [M,3,2], M at least 1, "
                f"not {list(faces.shape)} and {list(coordinates.shape)}"
            )
        self.resolution, self.height, self.width, self.samples = resolution, height, width, samples
        self.fovy, self.background = fovy, background
        kind = torch.get_default_dtype()
        self.register_buffer("triangles", vertices[faces].detach().to(kind), persistent=False)
        self.register_buffer("coordinates", coordinates.detach().to(kind), persistent=False)
        self.texture = nn.Parameter(torch.zeros(channels, resolution, resolution))
        self._kept: tuple[Any, ...] = (None,)

    def render(self, views: Any) -> Tensor:
        """Images [V,C,H,W], nominally in [−1, 1], for poses [V,4,4] or a camera batch; see `orbit`."""
        index, weight, behind = self.footprints(views)
        rows = self.texture.flatten(1).T.index_select(0, index.reshape(-1)).view(*index.shape, -1)
        pixels = (rows * weight[..., None]).sum(2).movedim(-1, 1)
        return pixels.view(len(pixels), -1, self.height, self.width) + behind

    def footprints(self, views: Any) -> tuple[Tensor, Tensor, Tensor]:
        """What A and b are made of.

        Args:
            views: As for `render`.

        Returns:
            The texels of each pixel [V,H·W,K], row · R + column, their weights [V,H·W,K], which are 0 off the mesh,
            and b, [V,C,H,W] or [V,1,H,W].
        """
        poses = views if isinstance(views, Tensor) else views.get("c2w")
        key = (poses, getattr(poses, "_version", None), self.texture.dtype, self.texture.device)
        if not (self._kept[0] is poses and self._kept[1:4] == key[1:]):
            with torch.no_grad():
                self._kept = (*key, *self._looked_up(views))
        return self._kept[4:]  # type: ignore[return-value]

    def matrix(self, views: Any) -> Tensor:
        """A as a sparse matrix [V·H·W, R²], the same for every channel; see `footprints`."""
        index, weight, _ = self.footprints(views)
        rows = torch.arange(index.shape[0] * index.shape[1], device=index.device)[:, None].expand(-1, index.shape[2])
        places = torch.stack([rows.reshape(-1), index.reshape(-1)])
        size = index.shape[0] * index.shape[1], self.resolution**2
        return cast(Any, torch).sparse_coo_tensor(places, weight.reshape(-1), size, check_invariants=False).coalesce()

    def colours(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Colours [...,C] where rays [...,3] of any lengths meet the mesh, and whether they do [...]."""
        places, met = self._met(origins.to(self.triangles), directions.to(self.triangles))
        index, weight = self._texels(places)
        return (self.texture.flatten(1).T[index] * weight[..., None]).sum(-2), met

    def _looked_up(self, views: Any) -> tuple[Tensor, Tensor, Tensor]:
        places, seen = self._seen(views)
        count, s = len(places), self.samples
        index, weight = self._texels(places)

        def by_pixel(each: Tensor) -> Tensor:
            """[V,H·s,W·s,4] → [V,H·W,4·s²]."""
            blocks = each.reshape(count, self.height, s, self.width, s, 4).movedim(2, 3)
            return blocks.reshape(count, self.height * self.width, 4 * s * s)

        weights = by_pixel(weight * seen[..., None] / s**2)
        covered = weights.sum(2).view(count, 1, self.height, self.width)
        return by_pixel(index), weights, (1 - covered) * self._behind(views)

    def _texels(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """The four texels [...,4], row · R + column, round places (s, t) [...,2], and their weights [...,4]."""
        last = self.resolution - 1
        at = (places * self.resolution - 0.5).clamp(0, last)
        low = at.floor().clamp(max=max(0, last - 1))
        part, low = at - low, low.long()
        columns, rows = (torch.stack([low[..., i], (low[..., i] + 1).clamp(max=last)], -1) for i in range(2))
        across, down = (torch.stack([1 - part[..., i], part[..., i]], -1) for i in range(2))
        index = rows[..., :, None] * self.resolution + columns[..., None, :]
        return index.flatten(-2), (down[..., :, None] * across[..., None, :]).flatten(-2)

    def _seen(self, views: Any) -> tuple[Tensor, Tensor]:
        """The texture's coordinates [V,H·s,W·s,2] of each point seen, and 1 where it is on the mesh, else 0."""
        poses, fovy = read_poses(views, type(self).__name__, self.fovy)
        places, met = self._met(*camera_rays(poses.to(self.triangles), fovy.to(self.triangles), *self._points))
        return places, met.to(places)

    def _met(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """The texture's coordinates [...,2] where rays [...,3] meet the mesh, and whether they do [...]."""
        number, weights = first_hit(origins, directions, self.triangles)
        return (weights[..., None] * self.coordinates[number.clamp(min=0)]).sum(-2), number >= 0

    @property
    def _points(self) -> tuple[int, int]:
        """Rows and columns of the points seen."""
        return self.height * self.samples, self.width * self.samples

    def _behind(self, views: Any) -> Tensor | float:
        """The background, [V,C,H,W] or what broadcasts to it."""
        return self.background
