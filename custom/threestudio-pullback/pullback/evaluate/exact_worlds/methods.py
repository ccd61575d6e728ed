"""The table of methods that the worlds, `pullback compare` and the command line read.

A method samples a fresh `world.diffrep()` and returns an Outcome. A new one is a line in METHODS, with a function of a
world, a seed and options as keyword arguments; `distilled` makes that of a baseline.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ...baselines import sdi, sds, sjc, vsd
from ...errors import UserError
from .. import options
from .distilled import distilled
from .outcome import Outcome
from .panorama import multidiffusion
from .pulled_back import pullback


def perfect(world: Any, seed: int) -> Outcome:
    """Draws from the right answer itself, to show the measures of a perfect sampler at as many seeds."""
    return Outcome(world.perfect(torch.Generator().manual_seed(seed)), 0)


@dataclass(frozen=True)
class Method:
    """A line of the table.

    Attributes:
        name: As on the command line.
        title: For a reader.
        reference: Where it was published.
        function: Of a world, a seed and options.
        length: The option that says how long a run is; None for a method that `pullback compare` does not run.
    """

    name: str
    title: str
    reference: str
    function: Callable[..., Outcome]
    length: str | None = "steps"

    @functools.cached_property
    def options(self) -> dict[str, Any]:
        """Its options and their defaults."""
        return options.of(self.function)


# The defaults of the baselines are the best of a search in the worlds of scenes, docs/results/baselines.md. In the
# plane, other values are best.
METHODS = {
    method.name: method
    for method in (
        Method("pullback", "Pulled-back sampling", "Savani, Finzi, Kolter 2024", pullback, "levels"),
        Method("sds", "Score distillation sampling (SDS)", "Poole et al. 2023, DreamFusion", distilled(sds.sample)),
        Method("sjc", "Score Jacobian chaining (SJC)", "Wang et al. 2023", distilled(sjc.sample)),
        Method(
            "vsd", "Variational score distillation (VSD)", "Wang et al. 2023, ProlificDreamer",
            distilled(vsd.sample, particles=4),
        ),
        Method(
            "sdi", "Score distillation via inversion (SDI)", "Lukoianov et al. 2024",
            distilled(sdi.sample, sigma_min=4.0, inversion_steps=3),
        ),
        Method("multidiffusion", "MultiDiffusion", "Bar-Tal et al. 2023", multidiffusion, None),
        Method("perfect", "The right answer itself", "", perfect, None),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """A method with values for some of its options, such as "pullback noise=fresh levels=40"."""

    name: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """The text that `parse` reads."""
        return options.label(self.name, self.options)

    def settings(self, world: Any) -> dict[str, Any]:
        """The value of every option in a world: the variant's, else the world's for `pullback`, else the default."""
        return METHODS[self.name].options | (world.defaults if self.name == "pullback" else {}) | self.options

    def __call__(self, world: Any, seed: int) -> Outcome:
        """Samples the world with a seed."""
        return METHODS[self.name].function(world, seed, **self.settings(world))


def parse(text: str) -> Variant:
    """Reads "name key=value …"; raises UserError for an unknown name, key or value."""
    name, *words = text.split() or [""]
    if name not in METHODS:
        raise UserError(f"--method {name!r} is not known; use one of {', '.join(METHODS)}")
    return Variant(name, options.read(words, METHODS[name].options, f"--method {text!r}"))
