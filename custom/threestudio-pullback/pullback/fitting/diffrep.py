"""Protocols of a differentiable representation, as the sampler needs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class DiffRep(Protocol):
    """A module whose parameters that require gradients are θ, and whose `render` is f(θ, views)."""

    def render(self, views: Any, /) -> Tensor:
        """Images [V,C,H,W], nominally in [−1, 1], one for each of the views."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As in every nn.Module."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """As in every nn.Module."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> Any:
        """As in every nn.Module."""
        ...


@runtime_checkable
class SubsampledDiffRep(Protocol):
    """A representation that can compute a random part of its residual; a first-order fit then uses that part."""

    def residual(self, views: Any, target: Tensor, generator: torch.Generator, /) -> Tensor:
        """An unbiased random part of render(views) − target, of any shape."""
        ...


@runtime_checkable
class RepeatedlySubsampledDiffRep(SubsampledDiffRep, Protocol):
    """One that does once what many parts of the residual for the same views and target have in common."""

    def residuals(self, views: Any, target: Tensor, generator: torch.Generator, times: int, /) -> Iterator[Tensor]:
        """As many parts as `residual` would give in a row, each at the parameters of its time."""
        ...
