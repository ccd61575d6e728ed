"""The options of `pullback-guidance`: one flat block of a config, checked as it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from omegaconf import OmegaConf
from pullback.constraints import CONSTRAINTS, Constraint, FreshBelow
from pullback.errors import ConfigError, UserError, check_schedule
from pullback.models.guidance_policy import POLICIES, GuidancePolicy
from pullback.models.guided import FIT_SPACES
from pullback.models.memory import TILED, VIEWS
from pullback.named import Named
from pullback.noise import COUPLINGS, Coupling
from pullback.sampling.integrators import INTEGRATORS
from pullback.sampling.presets import PRESETS, retried
from pullback.sampling.restart import Restart

from .._framework import BaseObject, config_to_primitive
from .drop_in import WEIGHTS
from .foreign import is_foreign


def _at_least(name: str, value: float, low: float, strict: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(name, f"must be a number, not {value!r}")
    if not value >= low or (strict and value == low):
        raise ConfigError(name, f"must be {'above' if strict else 'at least'} {low}, not {value}")


@dataclass
class Options(BaseObject.Config):
    """The options; see the comments, and docs/ for their meaning in a run."""

    pretrained_model_name_or_path: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    # the folder of an autoencoder (AutoencoderKL or AutoencoderTiny) in place of the model's own
    vae: Any = None
    # for a model in one file: the folder, or hub id, with the configs of such a model and what is not in the file
    single_file_config: Any = None
    # LoRA files, as [{path: a.safetensors, scale: 0.8}], and files of textual inversion, as [a.safetensors]
    lora: Any = None
    textual_inversion: Any = None
    guidance_scale: float = 7.5
    # the calls that are guided (a key of POLICIES: always, interval, adaptive); also as {type: name, option: value}
    guidance_policy: Any = "always"
    half_precision_weights: bool = True
    view_dependent_prompting: bool = True
    enable_memory_efficient_attention: bool = False
    enable_sequential_cpu_offload: bool = False
    enable_attention_slicing: bool = False
    enable_channels_last_format: bool = False
    # the GB of a GPU, 8, 12, 16 or 24, which decide about the next four where they are null (docs/models.md): views
    # that share a call of the network (8), autoencoder tile by tile, network's weights as float8, or on the CPU
    memory: int | None = None
    views_per_call: int | None = None
    enable_vae_tiling: bool | None = None
    enable_layerwise_casting: bool | None = None
    enable_group_offload: bool | None = None
    # quantised as they are read, by bitsandbytes; no preset of memory chooses it
    enable_4bit_weights: bool = False
    token_merging: bool = False
    # noise levels, in VE coordinates (σ); null: the model's own range, where sigma_max is so low that at most 15 % of
    # the levels lie above 14.6
    levels: int = 50
    sigma_max: Any = None
    sigma_min: Any = None
    rho: float = 7.0
    # fast or faithful: the values of noise, constraint and tries where they are null (docs/results/worlds.md)
    preset: str = "fast"
    # the noise of the views (a key of COUPLINGS), and the constraint on renders (a key of CONSTRAINTS); each also as
    # {type: name, option: value}. noise null: the preset's, or slot for a model of several views. cycles: visits of a
    # level where constraint is repaint
    noise: Any = None
    constraint: Any = None
    cycles: int = 2
    # below this σ noise is drawn anew at every visit, see pullback.FreshBelow; null: never
    settle_sigma: Any = None
    # the integrator: 1 Euler, 2 Heun (two calls a visit), multistep (of second order in one call, needs kept noise)
    order: Any = 1
    # maximum number of attempts where views disagree, including the first (1: no restart); with noise=surface the
    # part that disagrees gets new noise, and noises agree more after failures all over; restart_sigma: the level at
    # which a try begins, null: 0.4 √d for d numbers a view, see pullback.Restart; restart_limit: of self-consistency,
    # null: derived from the model's own noise floor
    tries: Any = None
    restart_sigma: Any = None
    restart_limit: Any = None
    # the fit of one level: optimiser steps, rays of one step (all views together), and its space
    fit_space: str = "image"
    fit_steps: int = 100
    fit_rays: int = 8192
    # as a drop-in only: the training steps to anneal over (null: trainer.max_steps), bounds of the noise by
    # threestudio's share of the model's time, the weight of the residual, and its largest absolute value
    trainer_max_steps: Any = None
    min_step_percent: Any = None
    max_step_percent: Any = None
    weighting_strategy: str = "fit"
    grad_clip: Any = None

    ignores = staticmethod(is_foreign)  # keys that a config may have to no effect, for the host's parser

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError("preset", f"must be one of {', '.join(PRESETS)}, not {self.preset!r}")
        for name in ("noise", "constraint", "tries"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(PRESETS[self.preset], name))
        self._set_memory()
        for name in ("levels", "cycles", "tries", "fit_steps", "fit_rays", "views_per_call"):
            _at_least(name, getattr(self, name), 1)
        _at_least("rho", self.rho, 1)
        for name in ("sigma_min", "sigma_max", "settle_sigma", "restart_sigma", "restart_limit"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 0, strict=True)
        choices = {"fit_space": FIT_SPACES, "order": tuple(INTEGRATORS), "weighting_strategy": tuple(WEIGHTS)}
        for name, allowed in choices.items():
            value = getattr(self, name)
            if value not in allowed or type(value) not in (int, str):
                listed = ", ".join(map(str, allowed))
                raise ConfigError(name, f"must be one of {listed}, not {value!r}")
        for name, high in (("min_step_percent", 1), ("max_step_percent", 1), ("grad_clip", math.inf)):
            if getattr(self, name) is not None:
                check_schedule(name, getattr(self, name), 0, high)
        if self.trainer_max_steps is not None:
            _at_least("trainer_max_steps", self.trainer_max_steps, 1)
        make_policy(self)
        for name, what in (("vae", "the folder of an autoencoder"), ("single_file_config", "a folder or hub id")):
            if not (getattr(self, name) is None or isinstance(getattr(self, name), str)):
                raise ConfigError(name, f"must be {what}, not {getattr(self, name)!r}")
        coupling, constraint = _part(self, "noise", COUPLINGS), _part(self, "constraint", CONSTRAINTS)
        kind = _name(self.constraint)
        if constraint.per_view_noise and coupling != COUPLINGS["independent"]:
            raise ConfigError("noise", f"must be independent where constraint is {kind}, not {_name(self.noise)!r}")
        if constraint.per_view_noise and self.settle_sigma is not None:
            raise ConfigError("settle_sigma", f"must be null where constraint is {kind}, which has noise of its own")
        orders = make_constraint(self).orders
        if self.order not in orders:
            allowed = " or ".join(map(str, orders))
            raise ConfigError("order", f"must be {allowed} where constraint is {kind}, not {self.order}")
        if self.order == "multistep" and not coupling.kept:
            raise ConfigError(
                "noise", f"must be kept along the path where order is multistep, not {_name(self.noise)!r}"
            )

    def _set_memory(self) -> None:
        """Sets what `memory` decides, and checks it."""
        if self.memory is not None and self.memory not in VIEWS:
            raise ConfigError("memory", f"must be one of {', '.join(map(str, VIEWS))} (GB), not {self.memory!r}")
        if self.views_per_call is None:
            self.views_per_call = max(VIEWS.values()) if self.memory is None else VIEWS[self.memory]
        if self.enable_vae_tiling is None:
            self.enable_vae_tiling = self.memory is not None and self.memory <= TILED


def _name(choice: Any) -> Any:
    return choice.get("type") if isinstance(choice, Mapping) else choice


def _part(cfg: Any, key: str, table: Named[Any]) -> Any:
    """The coupling or constraint of a key, with its options if it has any.

    Raises:
        ConfigError: There is no such part.
    """
    choice = getattr(cfg, key)
    choice = config_to_primitive(choice) if OmegaConf.is_config(choice) else choice  # threestudio's takes configs alone
    if _name(choice) not in table:
        raise ConfigError(key, f"must be one of {', '.join(table)}, not {_name(choice)!r}")
    try:
        return table.find(choice)
    except UserError as error:
        raise ConfigError(key, f"cannot be built: {error}") from error


def make_noise(cfg: Any) -> Coupling:
    """The coupling that these options describe."""
    return _part(cfg, "noise", COUPLINGS)


def make_policy(cfg: Any) -> GuidancePolicy:
    """The calls that these options guide."""
    return _part(cfg, "guidance_policy", POLICIES)


def make_constraint(cfg: Any) -> Constraint:
    """The constraint that these options describe; `cycles` is for a constraint without options of its own."""
    constraint: Any = _part(cfg, "constraint", CONSTRAINTS)
    kind: Any = type(constraint)
    if isinstance(cfg.constraint, str) and is_dataclass(kind) and "cycles" in (f.name for f in fields(kind)):
        constraint = replace(constraint, cycles=int(cfg.cycles))
    return constraint if cfg.settle_sigma is None else FreshBelow(float(cfg.settle_sigma), constraint)


def make_restart(cfg: Any, coupling: Coupling | None = None) -> Restart | None:
    """The run control that these options describe, for a run with their coupling or another."""
    sigma = None if cfg.restart_sigma is None else float(cfg.restart_sigma)
    limit = None if cfg.restart_limit is None else float(cfg.restart_limit)
    return retried(coupling or make_noise(cfg), int(cfg.tries), sigma, limit)
