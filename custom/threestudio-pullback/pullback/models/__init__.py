"""Pretrained text-to-image models as denoisers; diffusers and transformers come with a load."""

from .any_size import AnySize, check_square
from .configured import load_configured
from .controlled import PICTURE, Controlled, controlled
from .families import Family, register
from .families.mvdream import MultiViewModel
from .families.stable_diffusion import DiffusionModel
from .guidance_policy import POLICIES, GuidancePolicy
from .guided import GuidedDenoiser, fixed_text
from .joint import NO_PERP_NEG, group_of, with_cameras
from .kept import keeping
from .loading import embeds_prompts, fingerprint, load, load_text_encoder, resolve
from .model_error import ModelError, config_key
from .perp_neg import PerpNegDenoiser, PerpNegText
from .prompted import perp_neg_text_of, text_of
from .protocol import Conditioning, LatentModel
from .reading import TEXT_COMPONENTS, ModelFolder
from .round_trip import RoundTrip
from .sharded import Sharded
from .text import TextEncoder
from .words import Words, WordsOf

__all__ = [
    "NO_PERP_NEG",
    "PICTURE",
    "POLICIES",
    "TEXT_COMPONENTS",
    "AnySize",
    "Conditioning",
    "Controlled",
    "DiffusionModel",
    "Family",
    "GuidancePolicy",
    "GuidedDenoiser",
    "LatentModel",
    "ModelError",
    "ModelFolder",
    "MultiViewModel",
    "PerpNegDenoiser",
    "PerpNegText",
    "RoundTrip",
    "Sharded",
    "TextEncoder",
    "Words",
    "WordsOf",
    "check_square",
    "config_key",
    "controlled",
    "embeds_prompts",
    "fingerprint",
    "fixed_text",
    "group_of",
    "keeping",
    "load",
    "load_configured",
    "load_text_encoder",
    "perp_neg_text_of",
    "register",
    "resolve",
    "text_of",
    "with_cameras",
]
