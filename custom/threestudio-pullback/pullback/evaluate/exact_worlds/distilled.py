"""A baseline as a method of the worlds."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from ...sampling.schedule import settling_sigmas
from ...sampling.state import Result
from .outcome import Outcome

USUAL = {"steps": 75, "lr": 0.1, "sigma_min": 0.05, "sigma_max": 12.0, "levels": 100}


def distilled(sample: Callable[..., Result], **usual: Any) -> Callable[..., Outcome]:
    """Turns a baseline into a method of the worlds.

    Its options are the arguments of `sample` that are numbers, words or bools; and sigma_min, sigma_max and levels: how
    many noise levels there are between which σ, at equal distances in log σ.

    Args:
        sample: The baseline's `sample(diffrep, views, denoise, sigmas, …)`.
        usual: Defaults other than those of `sample` and of USUAL. With `particles`, `sample` gets a list of so many
            representations; the first is the outcome, and its share of the calls counts.
    """
    defaults = {p.name: p.default for p in inspect.signature(sample).parameters.values()}
    own = {name: value for name, value in defaults.items() if isinstance(value, (bool, int, float, str))}
    options = {**USUAL, **own, **usual}

    def method(world: Any, seed: int, **values: Any) -> Outcome:
        values = {**options, **values}
        sigmas = settling_sigmas(values["levels"], values["sigma_min"], values["sigma_max"], power=1.0)
        made = [world.diffrep() for _ in range(values.get("particles", 1))]
        start = made if "particles" in values else made[0]
        result = sample(
            start, world.views, world.denoise, sigmas, generator=torch.Generator().manual_seed(seed),
            **{name: values[name] for name in ("steps", "lr", *own)},
        )  # fmt: skip
        return Outcome.of(made[0], result, world.samples * len(made))

    method.__doc__ = sample.__doc__
    kinds = inspect.Parameter
    method.__signature__ = inspect.Signature(  # pyright: ignore[reportFunctionMemberAccess]
        [kinds(name, kinds.POSITIONAL_OR_KEYWORD) for name in ("world", "seed")]
        + [kinds(name, kinds.KEYWORD_ONLY, default=value) for name, value in options.items()]
    )
    return method
