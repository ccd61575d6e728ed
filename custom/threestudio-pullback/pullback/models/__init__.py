"""Pretrained text-to-image models as denoisers; diffusers and transformers come with a load."""

from .diffusion import DiffusionModel
from .folder import TEXT_COMPONENTS, fingerprint, resolve
from .guided import GuidedDenoiser, fixed_text
from .load import load, load_text_encoder
from .text import TextEncoder

__all__ = [
    "TEXT_COMPONENTS",
    "DiffusionModel",
    "GuidedDenoiser",
    "TextEncoder",
    "fingerprint",
    "fixed_text",
    "load",
    "load_text_encoder",
    "resolve",
]
