"""What the fused kernels need to know of a field."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

Corner = tuple[float, float, float]


class Field(NamedTuple):
    """A field of raw density and three features, for the kernels of `render.fused`.

    Attributes:
        kind: The module in `render.fused.kernels` that has its kernels.
        tensors: Its parameters, float32.
        settings: Its numbers.
        activation: Of the density, one of DENSITIES.
        bias: Added to the raw density.
        blob: 0 for none; a further bias of scale·(1 − |x|/std) (1) or scale·exp(−|x|²/2std²) (2).
        scale: Of the blob.
        std: Of the blob.
        box: Lower and upper corner of what the field fills, world units; that of the rays if None.
    """

    kind: str
    tensors: list[Tensor]
    settings: list[float]
    activation: str
    bias: float
    blob: int = 0
    scale: float = 0.0
    std: float = 1.0
    box: tuple[Corner, Corner] | None = None


DENSITIES = ("softplus", "exp", "trunc_exp", "relu")
"""Activations of the density that the kernels have."""
COLOURS = ("sigmoid", "none")
"""Activations of the colours that they have."""
EARLY_STOP = 1e-4
"""Transmittance below which a ray is opaque."""
MOST_INPUTS = 64
"""Largest number of inputs of the networks behind a hash grid."""
