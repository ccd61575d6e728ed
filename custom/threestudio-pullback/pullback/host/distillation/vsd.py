"""`stable-diffusion-vsd-guidance`: variational score distillation."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ... import models
from ...baselines import vsd
from ...baselines.distil import Step
from ...denoiser import Sigma, guide
from ...errors import ConfigError, check_at_least
from ...models.lora import LoRA
from ...models.protocol import cat
from ..base import BaseModule
from ..registry import register
from .guidance import Distillation
from .options import Options

CAMERAS = {"extrinsics": "c2w", "mvp": "mvp_mtx"}


@register("stable-diffusion-vsd-guidance")
class StableDiffusionVSDGuidance(Distillation, BaseModule):
    """loss_vsd of VSD (Wang et al. 2023), and loss_lora, which trains its second model on the same pictures.

    The second model is `lora`, this module's only part: the host's optimiser trains it, by `params: guidance: {lr: …}`,
    and checkpoints hold it. Where both model paths agree, the two share one frozen model. The second model reads the
    prompt itself, without the words for a side.
    """

    @dataclass
    class Config(Options):
        weights: str | None = None
        pretrained_model_name_or_path_lora: str = "stabilityai/stable-diffusion-2-1"
        guidance_scale: float = 7.5
        guidance_scale_plus_one: bool = False  # threestudio has diffusers' convention here
        guidance_scale_lora: float = 1.0  # from without to with the camera; 1: with it alone
        lora_cfg_training: bool = True  # one batch in ten comes without its cameras
        lora_n_timestamp_samples: int = 1  # levels of each picture in one step of the second model
        lora_rank: int = 4
        camera_condition_type: str = "extrinsics"
        sqrt_anneal: bool = False  # t falls with the root of the steps done, from max_step_percent to min_step_percent

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.camera_condition_type not in CAMERAS:
                names = " or ".join(CAMERAS)
                raise ConfigError("camera_condition_type", f"must be {names}, not {self.camera_condition_type!r}")
            check_at_least(self, 1, "lora_n_timestamp_samples", "lora_rank")

    cfg: Config
    loss_name = "loss_vsd"

    def configure(self) -> None:
        """Loads the model, and the second one where its path differs."""
        super().configure()
        alike = self.cfg.pretrained_model_name_or_path == self.cfg.pretrained_model_name_or_path_lora
        model = self.model if alike else self.load("pretrained_model_name_or_path_lora")
        self.lora = LoRA(model, self.cfg.lora_rank)

    def gradient(self, step: Step) -> Tensor:
        """VSD's gradient [B,c,h,w]."""
        return vsd.gradient(step, "sds")

    def second(self, prompt_utils: Any) -> _SecondModel:
        """The second model as a denoiser."""
        return _SecondModel(self, prompt_utils)

    def condition(self, prompt_utils: Any, views: dict[str, Any]) -> tuple[Any, Tensor]:
        """The second model's input beside pictures and time: `Prompts` and cameras [B,4,4] of these views."""
        angles = (views[k] for k in ("elevation", "azimuth", "camera_distances"))
        prompt_utils = self.words(self.lora.model, prompt_utils)
        cond, _ = prompt_utils.get_text_embeddings(*angles, False).chunk(2)
        return models.with_cameras(self.lora.model, cond, views), views[CAMERAS[self.cfg.camera_condition_type]]

    def further_losses(self, latents: Tensor, prompt_utils: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        """loss_lora of latents [B,c,h,w] with noise of random levels."""
        count = self.cfg.lora_n_timestamp_samples
        clean = latents.repeat(count, 1, 1, 1)
        draws = torch.randint(len(self.lora.model.schedule.sigmas), (len(clean) // self.group,))
        times = draws.repeat_interleave(self.group).to(clean.device)
        noise = torch.randn(clean.shape, dtype=clean.dtype).to(clean.device)
        text, camera = self.condition(prompt_utils, views)
        if self.cfg.lora_cfg_training and random.random() < 0.1:
            camera = torch.zeros_like(camera)
        self.nfe += len(clean)
        text = cat(*[text] * count)
        return {"loss_lora": self.lora.loss(clean, text, camera.repeat(count, 1, 1), times, noise)}


class _SecondModel:
    """The second model as a denoiser: x̂0 = uncond + s (camera − uncond), where uncond lacks the camera."""

    def __init__(self, guidance: StableDiffusionVSDGuidance, prompt_utils: Any) -> None:
        self.guidance, self.prompt_utils = guidance, prompt_utils
        self.scale = guidance.cfg.guidance_scale_lora
        self.nfe_per_view = 1 if self.scale == 1 else 2

    def __call__(self, noisy: Tensor, sigma: Sigma, views: dict[str, Any]) -> Tensor:
        lora, (text, camera) = self.guidance.lora, self.guidance.condition(self.prompt_utils, views)
        with_camera = lora(noisy, sigma, text, camera)
        if self.scale == 1:
            return with_camera
        return guide(with_camera, lora(noisy, sigma, text, torch.zeros_like(camera)), self.scale)
