"""The range of a model's noise levels."""

from __future__ import annotations

from torch import Tensor

from .errors import UserError


class NoiseLevels:
    """The noise levels of a model's training.

    Args:
        sigmas: [T], float64, increasing.

    Attributes:
        sigmas: The levels.
    """

    def __init__(self, sigmas: Tensor):
        self.sigmas = sigmas

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return float(self.sigmas[0])

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        return float(self.sigmas[-1])

    def check(self, sigma: float | Tensor) -> None:
        """Checks a level, or levels [V].

        Raises:
            UserError: One lies outside [sigma_min, sigma_max] by more than a thousandth, which counts as rounding.
        """
        low, high = self.sigma_min, self.sigma_max
        for level in [float(one) for one in sigma.unbind()] if isinstance(sigma, Tensor) else [sigma]:
            if not low * 0.999 <= level <= high * 1.001:
                raise UserError(
                    f"sigma {level:.4g} lies outside the model's range [{low:.4g}, {high:.4g}]; "
                    "choose sigma_min and sigma_max inside it"
                )
