"""Sample the parameters of a differentiable representation by pulled-back reverse diffusion."""

from .threads import is_command, wait_asleep

if is_command():
    wait_asleep()  # before torch is imported

# isort: split
from . import denoiser, diffreps, errors, noise, priors
from .constraints import FreshBelow, Langevin, Projection, Repaint, Settle
from .fitting import FirstOrder, GaussNewton, Outcome
from .sampling.loops import sample, steps
from .sampling.presets import preset
from .sampling.restart import Restart
from .sampling.sampler import Sampler
from .sampling.schedule import karras_sigmas, settling_sigmas
from .version import __version__

__all__ = [
    "FirstOrder",
    "FreshBelow",
    "GaussNewton",
    "Langevin",
    "Outcome",
    "Projection",
    "Repaint",
    "Restart",
    "Sampler",
    "Settle",
    "__version__",
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
