"""Pretrained text-to-image models as denoisers; diffusers and transformers come with a load."""

from .any_size import AnySize
from .configured import load_configured
from .diffusion import DiffusionModel
from .folder import TEXT_COMPONENTS, fingerprint, resolve
from .guided import GuidedDenoiser, fixed_text
from .load import load, load_text_encoder
from .perp_neg import PerpNegDenoiser, PerpNegText
from .prompted import perp_neg_text_of, text_of
from .round_trip import RoundTrip
from .text import TextEncoder

__all__ = [
    "TEXT_COMPONENTS",
    "AnySize",
    "DiffusionModel",
    "GuidedDenoiser",
    "PerpNegDenoiser",
    "PerpNegText",
    "RoundTrip",
    "TextEncoder",
    "fingerprint",
    "fixed_text",
    "load",
    "load_configured",
    "load_text_encoder",
    "perp_neg_text_of",
    "resolve",
    "text_of",
]
