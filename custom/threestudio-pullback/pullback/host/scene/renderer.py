"""`nerf-volume-renderer`: pictures of a density field by volume rendering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, UserError
from ...render.backends import choose, is_transformed
from ...render.field import COLOURS, EARLY_STOP, Field
from ...render.samples import HIDDEN, OPAQUE, DenseSamples, PackedSamples
from ..base import BaseModule, get_device
from ..config import config_path
from ..registry import info, register


class Renderer(BaseModule):
    """Draws geometry, material and background inside the cube [-radius, radius]³."""

    role = "renderer"

    @dataclass
    class Config(BaseModule.Config):
        radius: float = 1.0

    bbox: Tensor
    geometry: Any
    material: Any
    background: Any

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Takes the scene, whose parameters do not become the renderer's."""
        vars(self).update(geometry=geometry, material=material, background=background)  # not as nn.Module sets them
        r = self.cfg.radius
        self.register_buffer("bbox", torch.tensor([[-r] * 3, [r] * 3]))
        self.bbox_corners = (-r, -r, -r), (r, r, r)  # as plain numbers


@register("nerf-volume-renderer")
class NeRFVolumeRenderer(Renderer):
    """Emission and absorption along rays (Max 1995; Mildenhall et al. 2020).

    num_samples_per_ray samples lie between a ray's entry into the box and its exit; nerfacc marches with steps of the
    box's diagonal / num_samples_per_ray instead. grid_prune leaves out samples in empty cells of a 32³ occupancy grid,
    which training updates; prune_alpha_threshold also leaves out samples that are nearly transparent (α < 0.01) or
    hidden (transmittance < 1e-4). `backend` is the way to render, see `render.backends`; the fused kernels leave out
    hidden samples always, and what they cannot do is done in PyTorch.

    Attributes:
        optional_samples: `forward` can do without what it returns per sample.
        jitter: Draws where the samples of rays lie in their intervals: a tensor [R] → numbers in [0, 1) like it.
    """

    optional_samples = True
    needs = "nerf-volume-renderer", "forward_density", "a density", "volume-grid"
    jitter: Any = staticmethod(torch.rand_like)

    @dataclass
    class Config(Renderer.Config):
        num_samples_per_ray: int = 512
        eval_chunk_size: int = 160000  # samples at a time where no gradient is needed
        randomized: bool = True  # in training, samples anywhere in their intervals
        near_plane: float = 0.0
        far_plane: float = 1e10
        return_comp_normal: bool = False
        return_normal_perturb: bool = False
        estimator: str = "occgrid"
        grid_prune: bool = True
        prune_alpha_threshold: bool = True
        backend: str = "auto"  # auto, fused, torch or nerfacc

        def __post_init__(self) -> None:
            if self.estimator != "occgrid":
                raise ConfigError("estimator", f"must be 'occgrid', the only one here, not '{self.estimator}'")
            for name in ("radius", "num_samples_per_ray", "eval_chunk_size"):
                if not getattr(self, name) > 0:
                    raise ConfigError(name, f"must be above 0, not {getattr(self, name)}")
            if not 0 <= self.near_plane < self.far_plane:
                raise ConfigError("near_plane", f"must lie between 0 and far_plane, not at {self.near_plane}")

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Takes the scene and makes the occupancy grid; raises UserError where the geometry has no such field."""
        from nerfacc import OccGridEstimator

        name, lookup, what, fitting = self.needs
        if not hasattr(geometry, lookup):
            raise UserError(
                f"`system.renderer_type` is {name}, which needs {what}; set system.geometry_type={fitting}, or choose "
                "another renderer"
            )

        super().configure(geometry, material, background)
        self.estimator: Any = OccGridEstimator(roi_aabb=self.bbox.view(-1), resolution=32, levels=1)
        if not self.cfg.grid_prune:
            self.estimator.occs.fill_(True)
            self.estimator.binaries.fill_(True)
        self.render_step_size = 3**0.5 * 2 * self.cfg.radius / self.cfg.num_samples_per_ray
        self._choose_backend()

    def _choose_backend(self) -> None:
        """Finds what the fused kernels need, and says where they are asked for and cannot be used."""
        key, lacking = config_path(self.cfg, "backend"), self._lacking()
        kind = None if lacking else self.geometry.fused().kind
        self.backend, trouble = choose(self.cfg.backend, get_device(), kind, key)
        if trouble is not None:
            info(f"Rendering in PyTorch, which is slower: {trouble}")
        elif self.backend == "fused" and lacking:
            info(f"`{key}` is fused, but {lacking}; rendering in PyTorch")
            self.backend = "torch"

    def _lacking(self) -> str | None:
        """What this scene has that the fused kernels do not."""
        if self.material.requires_normal or self.cfg.return_comp_normal:
            return "the fused kernels have no normals"
        colour = getattr(self.material, "plain_activation", None)
        if colour not in COLOURS:
            return "the fused kernels have no such material"
        field = self.geometry.fused()
        return field if isinstance(field, str) else None

    def forward(
        self,
        rays_o: Tensor,
        rays_d: Tensor,
        light_positions: Tensor,
        bg_color: Tensor | None = None,
        per_sample: bool = True,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Renders rays.

        Args:
            rays_o: [B, H, W, 3] origins, world units; any B, H, W, so that N single rays are [1, 1, N, 3].
            rays_d: unit directions, of the same shape.
            light_positions: [B, 3] or [1, 3], one per image, or anything that broadcasts to [B, H, W, 3].
            bg_color: colours behind instead of the background's, [B, C] or [B, H, W, C].
            per_sample: whether training needs the values per sample, and comp_rgb_bg beside a bg_color.
            kwargs: passed on to the material.

        Returns:
            comp_rgb, comp_rgb_fg, comp_rgb_bg [B, H, W, C]; opacity, depth, z_variance [B, H, W, 1];
            comp_normal [B, H, W, 3], (n + 1)/2 · opacity, where there are normals (in training, with
            return_comp_normal). In training also, with per_sample, first axis N: weights, t_points, t_intervals,
            t_dirs, ray_indices, points and what the geometry returns.
        """
        shape = rays_o.shape[:3]
        wanted = self.training and per_sample
        behind = self.background(dirs=rays_d) if bg_color is None or per_sample else bg_color
        images = {"comp_rgb_bg": behind}
        if bg_color is not None:
            behind = bg_color[:, None, None] if bg_color.ndim == 2 else bg_color
        if self.backend == "fused" and not wanted and rays_o.dtype == torch.float32 and not is_transformed():
            return {**self._render_fused(rays_o, rays_d, behind), **images}
        if light_positions.ndim == 2:
            light_positions = light_positions[:, None, None]
        flat = [x.expand(*shape, 3).reshape(-1, 3) for x in (rays_o, rays_d, light_positions)]
        at_once = max(1, self.cfg.eval_chunk_size // self.cfg.num_samples_per_ray)
        size = len(flat[0]) if torch.is_grad_enabled() else at_once
        parts = [self._render(*rays, **kwargs) for rays in zip(*(x.split(size) for x in flat), strict=True)]
        for i, (_, samples) in enumerate(parts):
            if "ray_indices" in samples:
                samples["ray_indices"] = samples["ray_indices"] + i * size
        images |= {k: _joined([p[0][k] for p in parts]).view(*shape, -1) for k in parts[0][0]}
        samples = {k: _joined([p[1][k] for p in parts]) for k in parts[0][1]}
        images["comp_rgb"] = images["comp_rgb_fg"] + behind * (1 - images["opacity"])
        return {**images, **samples}

    def _render_fused(self, rays_o: Tensor, rays_d: Tensor, behind: Tensor) -> dict[str, Tensor]:
        """Images [B, H, W, C] by the fused kernels, in front of colours that broadcast to [B, H, W, 3]."""
        from ...render.fused.backdrop import in_front
        from ...render.fused.render import render

        cfg, shape = self.cfg, rays_o.shape[:3]
        # in mixed precision a network makes colours behind of half precision
        origins, directions, flat = (x.expand(*shape, 3).reshape(-1, 3).float() for x in (rays_o, rays_d, behind))
        field: Field = self.geometry.fused()
        pruned = cfg.grid_prune and cfg.prune_alpha_threshold
        sums = render(
            field, self.material.plain_activation, origins, directions, self._offset(origins), self.bbox_corners,
            near=cfg.near_plane, far=cfg.far_plane, count=cfg.num_samples_per_ray, stop=EARLY_STOP,
            occupied=self.estimator.binaries[0] if cfg.grid_prune else None,
            least=self.estimator.occs.mean().clamp(max=OPAQUE) if pruned else None,
        )  # fmt: skip
        rgb, opacity, depth, spread = sums.view(*shape, -1).split((3, 1, 1, 1), -1)
        seen = in_front(sums, flat).view(*shape, 3)
        return {"comp_rgb": seen, "comp_rgb_fg": rgb, "opacity": opacity, "depth": depth, "z_variance": spread}

    def _offset(self, origins: Tensor) -> Tensor:
        """Where the samples of each ray lie in their intervals, [R] in [0, 1)."""
        if self.training and self.cfg.randomized:
            return self.jitter(origins[:, 0])
        return torch.full_like(origins[:, 0], 0.5)

    def _render(
        self, origins: Tensor, directions: Tensor, lights: Tensor, **kwargs: Any
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Values per ray [R, C] and, in training, per sample [N, …], of rays [R, 3]."""
        samples = self._sample(origins, directions)
        t, ray_directions = samples.t[:, None], samples.spread(directions)
        points = samples.spread(origins) + t * ray_directions
        with_normal = self._needs_normal
        field = self.geometry(points, output_normal=with_normal)
        if "features" not in field:
            path = config_path(self.geometry.cfg, "n_feature_dims")
            raise UserError(f"`{path}` is 0, but the material makes colours of features; set it to 3")
        color = self.material(
            viewdirs=ray_directions, positions=points, light_positions=samples.spread(lights), **field, **kwargs
        )
        weights = self._weights(samples, field, ray_directions)[:, None]
        normal = field.get("normal") if self.cfg.return_comp_normal or not self.training else None
        columns = [torch.ones_like(t), t, color] + ([] if normal is None else [normal])
        sums = samples.sum(weights * torch.cat(columns, -1))
        opacity, depth, rgb, normals = sums.tensor_split((1, 2, 2 + color.shape[-1]), -1)
        mean_depth = depth / opacity.clamp(min=1e-5)
        spread = samples.sum(weights * (t - samples.spread(mean_depth)) ** 2) / opacity.clamp(min=1e-5)
        # of a nearly empty ray the spread means nothing
        images = {"comp_rgb_fg": rgb, "opacity": opacity, "depth": depth, "z_variance": spread * (opacity > 0.5)}
        if normal is not None:
            images["comp_normal"] = (F.normalize(normals, dim=-1) + 1) / 2 * opacity
        if not self.training:
            return images, {}
        if self.cfg.return_normal_perturb and with_normal:
            nearby = points + torch.randn_like(points) * 1e-2
            field["normal_perturb"] = self.geometry(nearby, output_normal=True)["normal"]
        per_sample = {
            "weights": weights,
            "t_points": t,
            "t_intervals": samples.dt[:, None],
            "t_dirs": ray_directions,
            "ray_indices": samples.ray_indices,
            "points": points,
            **field,
        }
        return images, per_sample

    @property
    def _needs_normal(self) -> bool:
        return self.material.requires_normal or (self.training and self.cfg.return_comp_normal)

    def _density(self, points: Tensor) -> Tensor:
        """The density [N, 1] that pruning goes by."""
        return self.geometry.forward_density(points)

    def _weights(self, samples: DenseSamples | PackedSamples, field: dict[str, Tensor], directions: Tensor) -> Tensor:
        """The contribution [N] of each sample, from what the geometry returns and the rays' directions [N, 3]."""
        return samples.weights(field["density"][:, 0])

    @torch.no_grad()
    def _sample(self, origins: Tensor, directions: Tensor) -> DenseSamples | PackedSamples:
        cfg = self.cfg
        density = self._density if cfg.grid_prune and cfg.prune_alpha_threshold else None
        if self.backend == "nerfacc":
            return PackedSamples.march(
                origins, directions, self.estimator, density, near_plane=cfg.near_plane, far_plane=cfg.far_plane,
                render_step_size=self.render_step_size, stratified=self.training and cfg.randomized,
            )  # fmt: skip
        samples = DenseSamples.march(
            origins, directions, self.bbox, cfg.near_plane, cfg.far_plane, cfg.num_samples_per_ray,
            self._offset(origins),
        )  # fmt: skip
        if not cfg.grid_prune:
            return samples

        def points() -> Tensor:
            return samples.spread(origins) + samples.t[:, None] * samples.spread(directions)

        samples.keep(self._occupied(points()))
        if density is not None:
            values = density(points())[:, 0]
            opaque = samples.transmittance(values)[1] >= min(OPAQUE, float(self.estimator.occs.mean()))
            samples.keep(opaque)
            samples.keep(samples.transmittance(values[opaque])[0] >= HIDDEN)
        return samples

    def _occupied(self, points: Tensor) -> Tensor:
        cells = self.estimator.binaries[0]
        unit = (points - self.bbox[0]) / (self.bbox[1] - self.bbox[0])
        x, y, z = (unit * len(cells)).long().clamp_(0, len(cells) - 1).unbind(-1)
        return cells.view(-1)[(x * len(cells) + y) * len(cells) + z]

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Updates the occupancy grid in training."""
        if self.cfg.grid_prune and self.training and not on_load_weights:
            self.estimator.update_every_n_steps(
                step=global_step,
                # 1 − exp(−σδ) to first order
                occ_eval_fn=lambda x: self._density(x) * self.render_step_size,
            )


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)
