"""What a folder's scheduler says of its network: which family of noise levels it was trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..denoiser import PREDICTION_TYPES, VPSchedule
from ..errors import UserError
from .flow import FlowSchedule
from .model_error import AGAIN, ModelError
from .reading import ModelFolder

FLOW, DIFFUSION = "flow matching", "diffusion"
_CONSISTENCY = "a consistency model, which jumps to the end of the path and knows no noise level on its way"
_FLOW_MAP = "a flow map, whose network takes two times"
_KINDS = {
    FLOW: ("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete"),
    DIFFUSION: (
        "DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "PNDM", "LMSDiscrete", "EulerDiscrete",
        "EulerAncestralDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverMultistep",
        "DPMSolverSinglestep", "DPMSolverSDE", "DEISMultistep", "UniPCMultistep", "SASolver", "IPNDM",
    ),
    _CONSISTENCY: ("LCM", "TCD", "SCM", "FlowMatchLCM", "CMStochasticIterative"),
    _FLOW_MAP: ("FlowMapEulerDiscrete",),
}  # fmt: skip
"""Diffusers' schedulers, without the word at the end."""


def kind_of(name: str) -> str | None:
    """The kind of a scheduler's class, None for one that is not known."""
    short = name.removesuffix("Scheduler")
    return next((kind for kind, names in _KINDS.items() if short in names), None)


def check_class(name: str, folder: str, where: str = "model_index.json") -> None:
    """Checks that a scheduler is one of a model that a sampler can use.

    Args:
        name: Its class.
        folder: The model's name or path, for the error.
        where: The file that names it.

    Raises:
        ModelError: It is one of consistency models or flow maps.
    """
    if (kind := kind_of(name)) in (_CONSISTENCY, _FLOW_MAP):
        raise ModelError(
            f"{folder} is {kind} ({where} names {name}); a sampler cannot use it, take the model that it was distilled "
            "from"
        )


def config_of(folder: ModelFolder, wanted: str) -> dict[str, Any]:
    """The scheduler's config of a folder.

    Args:
        folder: The model's.
        wanted: `FLOW` or `DIFFUSION`, as the family's network was trained.

    Raises:
        ModelError: It is another kind's, or says what no network of that kind can be.
    """
    file = "scheduler/scheduler_config.json"
    config, path = folder.json(file), folder.path / file
    name = str(config.get("_class_name", ""))
    check_class(name, str(folder.path), file)
    kind = FLOW if _says_flow(config) else kind_of(name)
    if name and kind != wanted:
        raise ModelError(
            f"{path} is that of a {name}, which does not fit a network of {wanted}, as model_index.json has it; {AGAIN}"
        )
    if config.get("rescale_betas_zero_snr") and config.get("prediction_type", "epsilon") == "epsilon":
        raise ModelError(
            f"{path} has zero terminal SNR (rescale_betas_zero_snr) with epsilon-prediction, which says nothing at the "
            "last noise level, where sigma is infinite; set rescale_betas_zero_snr to false if the model was not "
            "trained so, or prediction_type to v_prediction if it predicts v"
        )
    return config


def schedule_of(folder: ModelFolder) -> tuple[VPSchedule, str]:
    """The noise levels of a folder's scheduler, and what the network predicts.

    Raises:
        ModelError: The scheduler is of another kind.
    """
    name = "scheduler/scheduler_config.json"
    config, file = config_of(folder, DIFFUSION), folder.path / name
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in PREDICTION_TYPES:
        raise ModelError(
            f"{file} has prediction_type {prediction_type!r}, which is not supported; use a model that predicts one "
            f"of {', '.join(PREDICTION_TYPES)}"
        )
    with folder.reading(name):
        from diffusers import DDIMScheduler

        scheduler: Any = DDIMScheduler.from_config(config)
    try:
        # with zero terminal SNR the last level has an infinite sigma, which no visit can have
        return VPSchedule(scheduler.alphas_cumprod[scheduler.alphas_cumprod > 0]), prediction_type
    except UserError as error:
        raise ModelError(f"{file} describes no noise schedule ({error}); {AGAIN}") from error


def schedule_of_unet(folder: ModelFolder) -> tuple[VPSchedule | FlowSchedule, str]:
    """`schedule_of` for a UNet, which may also have been trained with flow matching: then it predicts "flow", ε − x0.

    Such folders name a solver for several kinds of models, with `prediction_type: flow_prediction` and
    `use_flow_sigmas: true`, since the pipelines of UNets cannot use the schedulers for flow matching alone.

    Raises:
        ModelError: The scheduler is of another kind.
    """
    config = folder.json("scheduler/scheduler_config.json")
    is_solver = kind_of(str(config.get("_class_name", ""))) == DIFFUSION
    if is_solver and config.get("prediction_type") == "flow_prediction" and config.get("use_flow_sigmas"):
        return flow_schedule(config)
    return schedule_of(folder)


def flow_schedule(config: Mapping[str, Any]) -> tuple[FlowSchedule, str]:
    """`schedule_of` for a network of flow matching, by its scheduler's config."""
    return FlowSchedule(int(config.get("num_train_timesteps", 1000))), "flow"


def _says_flow(config: Mapping[str, Any]) -> bool:
    """Whether a solver for several kinds of models is set up for flow matching."""
    return config.get("prediction_type") == "flow_prediction" or bool(config.get("use_flow_sigmas"))
