"""The texture of a mesh as a run's cameras see it: by the rasteriser, before the framework's background."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..diffreps import MeshTexture
from ..meshes.reading import Surface
from ..render.rasterise import interpolate, rasterise

GRAZING = 0.4
"""A face counts as seen from where the cosine between its normal and the direction to the camera is at least this.

What is seen at a flatter angle is a silhouette's pixel or two, in which a model that draws the object a little smaller
shows its backdrop.
"""
FAINT = 0.02
"""A texel that all views together show for less than this share of a pixel counts as unseen."""


class SeenTexture(MeshTexture):
    """`MeshTexture` for camera batches of a framework, of meshes with any number of faces.

    Args:
        vertices: [N,3] in the world.
        surface: The faces and texture coordinates.
        resolution: Texels a side.
        height: Rows of a render.
        width: Columns.
        background: (dirs [V,H,W,3]) -> colours [V,H,W,3] in [0, 1].
        samples: Points of a pixel along each side.

    Attributes:
        seen: How many pixels of all views so far each texel had [R²], those at a flat angle left out.
    """

    seen: Tensor

    def __init__(
        self, vertices: np.ndarray, surface: Surface, resolution: int, height: int, width: int,
        background: Callable[..., Tensor], samples: int = 1,
    ):  # fmt: skip
        super().__init__(
            torch.from_numpy(vertices), torch.from_numpy(surface.faces),
            torch.from_numpy(surface.coordinates[surface.corners]), resolution, height, width, samples=samples,
        )  # fmt: skip
        self._backdrop = background
        self._on_mesh: tuple[Any, ...] = (None,)
        self.register_buffer("seen", torch.zeros(resolution**2), persistent=False)

    def render(self, views: Any) -> Tensor:
        """See `MeshTexture.render`; it looks up the pixels on the mesh alone."""
        index, weight, behind = self.footprints(views)
        if self._on_mesh[0] is not index:
            met = weight.sum(2) > 0
            self._on_mesh = index, met, index[met].reshape(-1), weight[met][..., None]
        _, met, texels, weights = self._on_mesh
        rows = self.texture.flatten(1).T.index_select(0, texels)
        colours = (rows.view(*weights.shape[:2], -1) * weights).sum(1)
        pixels = colours.new_zeros(*met.shape, colours.shape[1]).index_put((met,), colours).movedim(-1, 1)
        return pixels.view(len(pixels), -1, self.height, self.width) + behind

    def _looked_up(self, views: Any) -> tuple[Tensor, Tensor, Tensor]:
        index, weight, behind = super()._looked_up(views)
        self.seen.index_add_(0, index.reshape(-1), (weight * self._straight[..., None]).reshape(-1))
        return index, weight, behind

    def _seen(self, views: Any) -> tuple[Tensor, Tensor]:
        """See `MeshTexture._seen`; one view at a time, to bound the memory."""
        attributes = self.coordinates.reshape(1, -1, 2)
        places, covered, straight = [], [], []
        cameras = views["camera_positions"].to(attributes)
        for camera, (_, faces, rast) in zip(cameras, self._rasterised(views, self._points), strict=True):
            places.append(interpolate(attributes, rast, faces)[0])
            covered.append((rast[..., 3] > 0).to(attributes))
            straight.append(self._facing(camera)[rast[0, ..., 3].long()])
        blocks = torch.stack(straight).view(len(straight), self.height, self.samples, self.width, self.samples)
        self._straight = blocks.amax((2, 4)).flatten(1)  # of each pixel's points, the one that is met most straight
        return torch.cat(places), torch.cat(covered)

    def _facing(self, camera: Tensor) -> Tensor:
        """1 for each triangle, counted from 1, that a camera [3] does not see at a flat angle, else 0 [1+M]."""
        a, b, c = self.triangles.unbind(1)
        normals = F.normalize(torch.linalg.cross(b - a, c - a), dim=-1)
        cosines = (normals * F.normalize(camera - (a + b + c) / 3, dim=-1)).sum(-1).abs()
        return F.pad((cosines >= GRAZING).to(normals), (1, 0))

    def _rasterised(self, views: Any, size: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """For each view the corners of all triangles in clip space [3M,4], the triangles [M,3], and `rasterise`'s."""
        corners = self.triangles.reshape(-1, 3)
        points = torch.cat([corners, torch.ones_like(corners[:, :1])], 1)
        faces = torch.arange(len(corners), dtype=torch.int32, device=corners.device).view(-1, 3)
        for matrix in views["mvp_mtx"].to(corners):
            clip = points @ matrix.T
            yield clip, faces, rasterise(clip[None], faces, size, grad_db=False)[0]

    @torch.no_grad()
    def nearness(self, views: Any) -> Tensor:
        """Pictures [V,3,H,W] of the depth as depth ControlNets know it: 1 what is nearest in a view, 0 the background.

        In between it is linear in the inverse of the depth along the line of sight, as MiDaS estimates it, and at least
        a tenth on the mesh.
        """
        pictures = []
        for clip, faces, rast in self._rasterised(views, (self.height, self.width)):
            inverse = interpolate(1 / clip[None, :, 3:].clamp(min=1e-6), rast, faces)[0][0, ..., 0]
            met = rast[0, ..., 3] > 0
            low, high = (float(inverse[met].min()), float(inverse[met].max())) if bool(met.any()) else (0.0, 1.0)
            near = 0.1 + 0.9 * (inverse - low) / max(high - low, 1e-9)
            pictures.append(torch.where(met, near, torch.zeros_like(near)).expand(3, -1, -1))
        return torch.stack(pictures)

    def _behind(self, views: Any) -> Tensor:
        colours = self._backdrop(dirs=views["rays_d"].to(self.triangles))
        return colours.movedim(-1, 1) * 2 - 1

    @torch.no_grad()
    def whole(self, vertices: np.ndarray, surface: Surface) -> tuple[np.ndarray, float]:
        """The texture with the places that no view has seen in the colours of the nearest that one has.

        Args:
            vertices: [N,3] in the world.
            surface: The faces and texture coordinates.

        Returns:
            [R,R,3] in [0, 1], row 0 at t = 0; and the share of the surface's texels that were seen.
        """
        from scipy.spatial import KDTree

        places, covered = _places(vertices, surface, self.resolution)
        texels = ((self.texture.detach().flatten(1).T + 1) / 2).clamp(0, 1).cpu().numpy()
        seen = (self.seen > FAINT).cpu().numpy()
        known = seen & covered if (seen & covered).any() else np.ones_like(seen)
        nearest: Any = KDTree(places[known]).query(places)[1]
        nearest[known] = np.arange(int(known.sum()))
        share = float((seen & covered).sum() / max(1, covered.sum()))
        return texels[known][nearest].reshape(self.resolution, self.resolution, -1), share


def _places(vertices: np.ndarray, surface: Surface, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Each texel's place on the surface [R²,3], beside a chart that of the nearest; and which are in a chart."""
    from scipy.ndimage import distance_transform_edt

    corners = surface.coordinates[surface.corners] * 2 - 1
    at = torch.from_numpy(corners.reshape(1, -1, 2)).float()
    flat = torch.cat([at, torch.zeros_like(at[..., :1]), torch.ones_like(at[..., :1])], -1)
    faces = torch.arange(at.shape[1], dtype=torch.int32).view(-1, 3)
    rast, _ = rasterise(flat, faces, (size, size), grad_db=False)
    points = torch.from_numpy(vertices[surface.faces].reshape(1, -1, 3)).float()
    places = interpolate(points, rast, faces)[0][0].numpy()
    empty = (rast[0, ..., 3] == 0).numpy()
    nearest: Any = distance_transform_edt(empty, return_distances=False, return_indices=True)
    rows, columns = nearest
    return places[rows, columns].reshape(-1, 3), ~empty.reshape(-1)
