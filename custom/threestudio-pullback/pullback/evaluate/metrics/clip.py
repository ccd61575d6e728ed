"""How well views show a prompt, and how good they look, by CLIP."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clip_score(images: Tensor, text: Tensor) -> float:
    """CLIP score of the views of one object: mean over the views of 100 max(cos(image, text), 0), from 0 to 100.

    Source: Hessel et al. 2021 (CLIPScore), with the factor 100 in place of their 2.5, as text-to-3D papers report it.

    Args:
        images: Features [V,D] of the views.
        text: Features [D] of the prompt, without a view's words.
    """
    cosines = _unit(_views(images)) @ _unit(text)
    return 100 * float(cosines.clamp(min=0).mean())


def r_precision(images: Tensor, texts: Tensor, own: int) -> float:
    """R-precision (R = 1) of one object: the share of its views whose nearest prompt is their own, from 0 to 1.

    The nearest prompt has the greatest cosine; a tie with another prompt counts as a miss. Chance is 1/P. Source: Park
    et al. 2021, with CLIP as the retrieval model, as in DreamFusion (Poole et al. 2022).

    Args:
        images: Features [V,D] of the views.
        texts: Features [P,D] of all prompts of the comparison.
        own: The index of the object's own prompt.
    """
    cosines = _unit(_views(images)) @ _unit(texts).T
    others = torch.cat([cosines[:, :own], cosines[:, own + 1 :]], 1)
    return float((cosines[:, own, None] > others).all(1).double().mean())


GOOD_AND_BAD = ("Good photo.", "Bad photo.")


def clip_iqa(images: Tensor, texts: Tensor, scale: float = 100.0) -> float:
    """CLIP-IQA of the views of one object: mean probability of the good prompt against the bad one, from 0 to 1.

    It is softmax(scale · [cos(image, good), cos(image, bad)])₁. Source: Wang et al. 2023, whose model has no position
    embeddings; here any CLIP serves, as in torchmetrics, so that only figures of one model can be compared.

    Args:
        images: Features [V,D] of the views.
        texts: Features [2,D] of GOOD_AND_BAD.
        scale: The model's own.
    """
    return float((scale * _unit(_views(images)) @ _unit(texts).T).softmax(1)[:, 0].mean())


def _unit(features: Tensor) -> Tensor:
    return F.normalize(features.double(), dim=-1)


def _views(features: Tensor) -> Tensor:
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features [V,D] of at least one view are needed, not {list(features.shape)}")
    return features
