"""`stable-diffusion-guidance`: score distillation sampling, and Score Jacobian Chaining."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ...baselines import sds, sjc
from ...baselines.distil import Step
from ...errors import ConfigError
from ..base import BaseObject
from ..registry import register
from .guidance import Distillation
from .options import Options


@register("stable-diffusion-guidance")
class StableDiffusionGuidance(Distillation, BaseObject):
    """loss_sds of SDS (Poole et al. 2023), or with use_sjc of SJC (Wang et al. 2023); each picture has its own t."""

    @dataclass
    class Config(Options):
        pretrained_model_name_or_path: str = "runwayml/stable-diffusion-v1-5"
        weighting_strategy: str = "sds"
        use_sjc: bool = False
        var_red: bool = True  # of SJC: take ε, whose mean is 0, out of the gradient
        sqrt_anneal: bool = False  # t falls with the root of the steps done, from max_step_percent to min_step_percent
        max_items_eval: int = 4

        def unused(self) -> dict[str, str]:
            """The keys of threestudio that have no effect here, each with the reason."""
            return {**super().unused(), "max_items_eval": "pictures of the guidance's own are not drawn"}

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.weighting_strategy not in sds.WEIGHTS:
                names = ", ".join(sds.WEIGHTS)
                raise ConfigError("weighting_strategy", f"must be one of {names}, not {self.weighting_strategy!r}")

    cfg: Config
    loss_name = "loss_sds"

    def gradient(self, step: Step) -> Tensor:
        """SDS's gradient [B,c,h,w], or SJC's."""
        if self.cfg.use_sjc:
            return sjc.gradient(step, self.cfg.var_red)
        return sds.gradient(step, self.cfg.weighting_strategy)
