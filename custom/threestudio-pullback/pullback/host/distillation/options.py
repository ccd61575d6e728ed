"""The keys that all guidances of score distillation have, as threestudio 0.2.3 names them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from ...errors import ConfigError, check_at_least, check_schedule
from ..base import BaseObject


@dataclass
class Options(BaseObject.Config):
    """min_step_percent, max_step_percent and grad_clip may be schedules."""

    pretrained_model_name_or_path: str = "stabilityai/stable-diffusion-2-1-base"
    guidance_scale: float = 100.0
    half_precision_weights: bool = True  # on a GPU
    view_dependent_prompting: bool = True
    min_step_percent: Any = 0.02  # bounds of the time t, as shares of the model's
    max_step_percent: Any = 0.98
    trainer_max_steps: int = 25000  # training steps that an annealed t takes to fall
    grad_clip: Any = None  # largest absolute value of the gradient
    use_img_loss: bool = False
    enable_memory_efficient_attention: bool = False
    enable_sequential_cpu_offload: bool = False
    enable_attention_slicing: bool = False
    enable_channels_last_format: bool = False
    token_merging: bool = False
    token_merging_params: dict | None = field(default_factory=dict)
    # where threestudio differs from others, so that a comparison can choose. guidance_scale_plus_one: guidance is
    # cond + s (cond − uncond), not diffusers' uncond + s (cond − uncond), which Perp-Neg always has. nan_to_num: a NaN
    # becomes 0 and is no error; the one default that is not threestudio's. image_size: pixels a side to which renders
    # are resized (threestudio: 512); null: the model's own size
    guidance_scale_plus_one: bool = True
    nan_to_num: bool = False
    image_size: int | None = None

    def unused(self) -> dict[str, str]:
        """The keys of threestudio that have no effect here, each with the reason."""
        return {"use_img_loss": "the loss in image space is not there"}

    def __post_init__(self) -> None:
        default = {f.name: f.default for f in fields(self)}
        for name, why in self.unused().items():
            if getattr(self, name) != default[name]:
                raise ConfigError(name, f"must be {str(default[name]).lower()}: {why}")
        for name in ("min_step_percent", "max_step_percent"):
            check_schedule(name, getattr(self, name), 0, 1)
        low, high = self.min_step_percent, self.max_step_percent
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and low > high:
            raise ConfigError("min_step_percent", f"must be at most max_step_percent, {high:g}, not {low:g}; swap them")
        if self.grad_clip is not None:
            check_schedule("grad_clip", self.grad_clip, 0)
        check_at_least(self, 1, "trainer_max_steps", *(["image_size"] if self.image_size is not None else []))
