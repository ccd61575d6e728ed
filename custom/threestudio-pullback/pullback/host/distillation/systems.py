"""threestudio's systems of score distillation: each step adds a guidance's losses and regularisers of a render."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, UserError, check_at_least
from ...models import check_square
from ...output.turntable import Pictures
from ..config import config_path
from ..registry import check_keys, find, info, register
from ..training.regularisers import PER_SAMPLE, REGULARISERS
from ..training.systems import BaseLift3DSystem

# losses of guidances; a config may weigh ones that its guidance does not have
LOSSES = ("sds", "sds_img", "vsd", "vsd_img", "lora", "sdi", "pullback")
# entries of `loss` that weigh nothing
SETTINGS = {"center_ratio": 0.78125, "emptiness_scale": 10.0}


class DistillationSystem(Pictures, BaseLift3DSystem):
    """One training step: render the batch, sum lambda_x · loss_x over the guidance's losses and the regularisers.

    Weights are schedules; a regulariser without one, or with 0, is not computed. A guidance with parameters of its own
    is a part of the system from the start, and of its checkpoints; another is loaded when training begins.
    """

    cfg: Any
    guidance: Any
    prompt_utils: Any
    shows_latents = False  # whether renders are latents of the guidance's model, not colours

    def configure(self) -> None:
        """Builds the scene, and the guidance where it has parameters or decodes the renders."""
        super().configure()
        names = {f"lambda_{name}" for name in (*REGULARISERS, *LOSSES)} | set(SETTINGS)
        check_keys(self.cfg.loss, names, config_path(self.cfg, "loss"))
        self._calls = 0  # denoiser calls in the run before this one
        self.has_parts = issubclass(find(self.cfg.guidance_type, config_path(self.cfg, "guidance_type")), nn.Module)
        if self.has_parts or self.shows_latents:
            self.guidance = self._build("guidance")
        if not self.has_parts and "guidance" in (self.cfg.optimizer.get("params") or {}):
            info(f"`{config_path(self.cfg, 'optimizer')}.params.guidance` has no effect: the guidance is not trained")
            left = {key: value for key, value in self.cfg.optimizer["params"].items() if key != "guidance"}
            self.cfg.optimizer = {**self.cfg.optimizer, "params": left}

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The renderer's output for the cameras of a batch."""
        if not getattr(self.renderer, "optional_samples", False):
            return self.renderer(**batch)
        needed = any(self.C(self.cfg.loss.get(f"lambda_{name}", 0)) > 0 for name in PER_SAMPLE)
        return self.renderer(**batch, per_sample=needed)

    def on_fit_start(self) -> None:
        """Loads the guidance and embeds the prompt."""
        super().on_fit_start()
        check_square(getattr(getattr(self.trainer, "datamodule", None), "cfg", None))
        if not (self.has_parts or self.shows_latents):
            self.guidance = self._build("guidance")
        self.guidance.nfe = self._calls
        self.prompt_utils = self._build("prompt_processor")()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """One step's loss, a scalar; logs every term and weight."""
        out = self(batch)
        answer = self.guidance(out["comp_rgb"], self.prompt_utils, **batch, rgb_as_latents=self.shows_latents)
        losses = {name.removeprefix("loss_"): value for name, value in answer.items() if name.startswith("loss_")}
        for name in losses:
            if f"lambda_{name}" not in self.cfg.loss:
                where = config_path(self.cfg, "loss")
                raise UserError(f"`{where}.lambda_{name}` is missing; add it, for example with the value 1")
        weights = {key.removeprefix("lambda_"): self.C(v) for key, v in self.cfg.loss.items() if key not in SETTINGS}
        losses |= {name: term(out, self._options) for name, term in REGULARISERS.items() if weights.get(name, 0) > 0}
        for name, value in answer.items():
            if not name.startswith("loss_"):
                self.log(f"train/{name}", float(value))
        for name, value in losses.items():
            self.log(f"train/loss_{name}", value)
        for name, value in weights.items():
            self.log(f"train_params/lambda_{name}", float(value))
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        self.log("train/loss", loss)
        return {"loss": loss}

    @property
    def _options(self) -> dict[str, Any]:
        return {**SETTINGS, **self.cfg.loss, "convexity_res": self.cfg.get("convexity_res", 8)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Saves the number of denoiser calls."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["nfe"] = getattr(getattr(self, "guidance", None), "nfe", self._calls)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Goes on counting denoiser calls from the saved number."""
        super().on_load_checkpoint(checkpoint)
        self._calls = checkpoint.get("nfe", 0)


@register("dreamfusion-system")
class DreamFusion(DistillationSystem):
    """threestudio's system of SDS; it takes any guidance."""


@register("sdi-system")
class ScoreDistillationViaInversion(DistillationSystem):
    """threestudio's system of SDI; lambda_convex looks at a picture with convexity_res pixels a side."""

    @dataclass
    class Config(DistillationSystem.Config):
        convexity_res: int = 8

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(self, 2, "convexity_res")


@register("prolificdreamer-system")
class ProlificDreamer(DistillationSystem):
    """threestudio's system of VSD, its stage "coarse"."""

    @dataclass
    class Config(DistillationSystem.Config):
        stage: str = "coarse"
        visualize_samples: bool = False

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.stage != "coarse":
                raise ConfigError("stage", f"must be coarse, the only one the bundled host has, not {self.stage!r}")
            if self.visualize_samples:
                raise ConfigError("visualize_samples", "must be false: the bundled host draws no pictures of a model")


@register("sjc-system")
class ScoreJacobianChaining(DistillationSystem):
    """threestudio's system of SJC: the field's colours are latents, which evaluation decodes into pictures.

    With subpixel_rendering it decodes them at twice the model's size.
    """

    @dataclass
    class Config(DistillationSystem.Config):
        subpixel_rendering: bool = True

    shows_latents = True

    def forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The renderer's output; outside training its colours are decoded."""
        out = super().forward(batch)
        if not self.training:
            model = self.guidance.model
            size = (model.sample_size * (2 if self.cfg.subpixel_rendering else 1),) * 2
            latents = F.interpolate(out["comp_rgb"].movedim(-1, 1), size, mode="bilinear", align_corners=False)
            picture = (model.decode(latents) / 2 + 0.5).clamp(0, 1)
            out["comp_rgb"] = picture.movedim(1, -1)
            out["opacity"] = F.interpolate(out["opacity"].movedim(-1, 1), picture.shape[-2:]).movedim(1, -1)
        return out
