"""`pullback-system`: text to 3D by sampling; one training step is one visit of a noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pullback
import torch
from pullback.errors import NonFiniteError, UserError
from torch import Tensor

from . import guidance as _guidance  # noqa: F401  (registers pullback-guidance)
from ._framework import BaseLift3DSystem, find, info, register
from .field import RenderedField


@register("pullback-system")
class PullbackSystem(BaseLift3DSystem):
    """Samples the field's parameters by the pulled-back reverse diffusion of Savani et al. 2024.

    A step takes the batch's cameras, forms the targets of one noise level and fits the field to them with the
    optimiser of `system.optimizer`. All options lie in the `guidance` block. The run ends when the last level is
    done, or at `trainer.max_steps` if that comes first.
    """

    @dataclass
    class Config(BaseLift3DSystem.Config):
        pass

    cfg: Config

    def configure(self) -> None:
        super().configure()
        self.automatic_optimization = False
        self.sampler: pullback.Sampler | None = None
        self.state: Any = None
        self._seed = torch.initial_seed()
        self._saved: dict[str, Any] | None = None
        self._pictures: list[tuple[int, Tensor, Tensor]] = []

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        return self.renderer(**batch)

    def _look(self, batch: dict[str, Any]) -> tuple[int, Tensor, Tensor]:
        """Index, colours [H,W,3] and opacity [H,W] of an evaluation view, for `_save_grid`."""
        out, view = self(batch), int(batch["index"][0])
        if not bool(out["comp_rgb"].isfinite().all()):
            raise NonFiniteError(f"At step {self.true_global_step} the render has a NaN in evaluation view {view}.")
        return view, out["comp_rgb"][0], out["opacity"][0, ..., 0]

    # ---- sampling

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.resumed and self._saved is None:
            raise UserError(
                "`resume` names a checkpoint of another system, which holds no sampler state; "
                "start from its parameters with system.weights=…"
            )
        self.guidance = find(self.cfg.guidance_type)(self.cfg.guidance)
        prompt_processor = find(self.cfg.prompt_processor_type)(self.cfg.prompt_processor)
        prompt_utils = prompt_processor()

        def text(views: dict[str, Any]) -> tuple[Tensor, Tensor]:
            both = prompt_utils.get_text_embeddings(
                views["elevation"], views["azimuth"], views["camera_distances"],
                self.guidance.cfg.view_dependent_prompting,
            )  # fmt: skip
            cond, uncond = both.chunk(2)
            return cond, uncond

        parts = [self.renderer, self.geometry, self.material, self.background]
        self._field = (RenderedField(self.renderer, parts, self.guidance.cfg.fit_rays),)  # hidden from state_dict
        self._batch: dict[str, Any] = {}
        sampler = self.sampler = self.guidance.sampler(
            self._field[0],
            views=lambda generator: self._batch,
            denoise=self.guidance.denoiser(text),
            optimizer=self.optimizers(use_pl_optimizer=False),  # type: ignore[arg-type]
            seed=self._seed,
        )
        self.state = sampler.initial() if self._saved is None else sampler.restore(self._saved)
        steps = sampler.total
        loop = self.trainer.fit_loop.epoch_loop
        loop.max_steps = steps if loop.max_steps < 0 else min(steps, loop.max_steps)
        info(
            f"Sampling {self.guidance.cfg.levels} noise levels in {steps} visits, "
            f"from sigma {sampler.sigmas[0]:.3g} to {sampler.sigmas[-2]:.3g}"
        )

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        assert self.sampler is not None
        field = self._field[0]
        self._batch = batch
        field.epoch = self.true_current_epoch
        field.fit_step = self.true_global_step * self.guidance.cfg.fit_steps
        self.state = self.sampler.visit(self.state)
        for name in ("level", "sigma", "residual"):
            self.log(name, float(self.state.record[name]), prog_bar=True)
        for name in ("cycle", "nfe", "residual_before"):
            self.log(name, float(self.state.record[name]))
        self._count_step()

    def _count_step(self) -> None:
        # the fit stepped the bare optimiser; a step without gradients moves nothing and counts one for the host
        optimizer = self.optimizers()
        optimizer.zero_grad(set_to_none=True)  # type: ignore[union-attr]
        optimizer.step()  # type: ignore[union-attr]
        schedulers = self.lr_schedulers()
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            if scheduler is not None:
                scheduler.step()  # type: ignore[call-arg]

    def on_fit_end(self) -> None:
        if self.sampler is None or self.state.sigma > 0 or not self._batch:
            return
        info(
            f"Self-consistency {self.sampler.consistency(self._batch):.3f}: rms, in the model's latent space at noise "
            "level 1, between the last views' renders and what the model makes of them; a blend of several objects "
            "shows as a larger value"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        if self.state is not None:
            checkpoint["pullback"] = self.state.state_dict(with_params=False)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._saved = checkpoint.get("pullback")

    # ---- pictures

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        self._pictures.append(self._look(batch))

    def on_validation_epoch_end(self) -> None:
        self._save_grid(f"it{self.true_global_step}-val.png", "validation_step")

    def test_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        view, rgb, opacity = self._look(batch)
        self._pictures.append((view, rgb, opacity))
        self.save_image_grid(
            f"it{self.true_global_step}-test/{view}.png",
            [{"type": "rgb", "img": rgb, "kwargs": {"data_format": "HWC"}}],
            name="test_step",
            step=self.true_global_step,
        )

    def on_test_epoch_end(self) -> None:
        folder = f"it{self.true_global_step}-test"
        self.save_img_sequence(
            folder, folder, r"(\d+)\.png", save_format="mp4", fps=30, name="test", step=self.true_global_step
        )
        every = max(1, len(self._pictures) // 8)
        self._pictures = self._pictures[::every][:8]
        self._save_grid(f"it{self.true_global_step}-grid.png", "test")

    def _save_grid(self, filename: str, name: str) -> None:
        """One picture of all collected views: colours above, opacity below."""
        if not self._pictures:
            return
        views = sorted(self._pictures, key=lambda p: p[0])
        self._pictures = []
        self.save_image_grid(
            filename,
            [
                [
                    {
                        "type": "rgb",
                        "img": torch.cat([v[1] for v in views], 1),
                        "kwargs": {"data_format": "HWC"},
                    }
                ],
                [
                    {
                        "type": "grayscale",
                        "img": torch.cat([v[2] for v in views], 1),
                        "kwargs": {"cmap": None, "data_range": (0, 1)},
                    }
                ],
            ],
            name=name,
            step=self.true_global_step,
        )
