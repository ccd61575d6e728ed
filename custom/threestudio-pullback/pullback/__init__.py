"""Sample the parameters of a differentiable representation by pulled-back reverse diffusion."""

from . import denoiser, diffreps, errors, noise, priors
from .constraint import Projection, Repaint
from .langevin import Langevin
from .presets import preset
from .restart import Restart
from .sampler import Sampler, sample, steps
from .schedule import karras_sigmas, settling_sigmas
from .settle import Settle
from .solve import FirstOrder, GaussNewton, Outcome

__version__ = "0.1.0"

__all__ = [
    "FirstOrder",
    "GaussNewton",
    "Langevin",
    "Outcome",
    "Projection",
    "Repaint",
    "Restart",
    "Sampler",
    "Settle",
    "denoiser",
    "diffreps",
    "errors",
    "karras_sigmas",
    "noise",
    "preset",
    "priors",
    "sample",
    "settling_sigmas",
    "steps",
]
