"""Sample the parameters of a differentiable representation by pulled-back reverse diffusion."""

__version__ = "0.1.0"
