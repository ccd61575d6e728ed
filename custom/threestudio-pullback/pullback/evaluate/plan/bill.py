"""The cost of a run, and of its phases."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """What one part of a run costs each time.

    Attributes:
        times: How often it comes in a run; a part of a call where guidance leaves out the other.
        flops: Of one time, as the other numbers.
        traffic: Bytes moved.
        launches: Kernels.
        synchronisations: Waits for the device.
        activations: The most bytes alive besides what lives all the time.
        half: Whether the networks' dtype is that of its products.
    """

    times: float
    flops: float
    traffic: float
    launches: float
    synchronisations: float
    activations: int
    half: bool

    def scaled(self, factor: float) -> Phase:
        """The phase with `factor` times the work, done a part at a time."""
        return dataclasses.replace(self, **{k: getattr(self, k) * factor for k in _SUMS})

    def without(self, other: Phase) -> Phase:
        """The phase less another of the same activations."""
        return dataclasses.replace(self, **{k: getattr(self, k) - getattr(other, k) for k in _SUMS})


_SUMS = "flops", "traffic", "launches", "synchronisations"
EMBED = "embed"
"""The phase in which a model embeds prompts itself; its text encoders come for it and go."""
NETWORK_PARTS = {"unet": "UNet", "transformer": "transformer"}
"""Names of the network that predicts, by the part of the folder."""


@dataclass(frozen=True)
class Bill:
    """The cost of a run.

    Attributes:
        parameters: By part: UNet or transformer, autoencoder, text encoder, field.
        weights: Bytes of the networks on the GPU.
        field: Bytes of the field's parameters, the optimiser's memory of them, and the views.
        visits: Of noise levels, in one attempt.
        views: Of a visit.
        calls: Network evaluations of an attempt, the check at its end among them; each view counts.
        phases: By name.
        half: Whether the networks are in half precision.
        samples_rays: Whether the fit takes `fit_rays` of the pictures' rays.
        held: Bytes of the network that predicts, among `weights`.
        whole: Bytes of it where nothing is saved, in the networks' dtype or as it is quantised.
        quantised: Whether it is.
    """

    parameters: dict[str, int]
    weights: int
    field: int
    visits: int
    views: int
    calls: int
    phases: dict[str, Phase]
    half: bool
    samples_rays: bool
    held: int
    whole: int
    quantised: bool = False

    @property
    def text(self) -> int:
        """Parameters of the text encoders that the model itself has beside; see `EMBED`."""
        return self.parameters["text encoder"] if EMBED in self.phases else 0

    @property
    def peak(self) -> int:
        """The most bytes alive."""
        return self.weights + self.field + max(phase.activations for phase in self.phases.values())

    @property
    def largest(self) -> str:
        """The phase of the peak."""
        return max(self.phases, key=lambda name: self.phases[name].activations)

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return sum(phase.times * phase.flops for phase in self.phases.values())
