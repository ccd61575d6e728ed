"""The embeddings of a prompt, chosen or mixed by the side of the object that a camera sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import UserError

SIDE, FRONT, BACK, OVERHEAD = range(4)
DIRECTIONS = ("side", "front", "back", "overhead")


def directions(elevation: Tensor, azimuth: Tensor, front: float, back: float, overhead: float) -> Tensor:
    """The side of the object that each camera sees, by threestudio's rules; where two sectors overlap, back wins.

    Args:
        elevation: [B], degrees.
        azimuth: [B], degrees.
        front: half-width of the sector round azimuth 0, degrees.
        back: half-width of the sector round azimuth 180, degrees.
        overhead: elevation above which only "overhead" holds, degrees.

    Returns:
        Indices [B] into `DIRECTIONS`.
    """
    around = ((azimuth + 180) % 360 - 180).abs()
    index = torch.full_like(around, SIDE, dtype=torch.long)
    index[around < front] = FRONT
    index[around > 180 - back] = BACK
    index[elevation > overhead] = OVERHEAD
    return index


@dataclass
class PromptUtils:
    """Embeddings of one prompt: plain ones [1,T,D], view-dependent ("vd") ones [4,T,D] by `DIRECTIONS`."""

    prompt: str
    prompts_vd: list[str]
    text_embeddings: Tensor
    uncond_text_embeddings: Tensor
    text_embeddings_vd: Tensor
    uncond_text_embeddings_vd: Tensor
    front_threshold: float
    back_threshold: float
    overhead_threshold: float
    use_perp_neg: bool = False
    perp_neg_decays: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    negative_prompt: str = ""

    def get_text_embeddings_perp_neg(
        self, elevation: Tensor, azimuth: Tensor, camera_distances: Tensor, view_dependent_prompting: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Embeddings [4B,T,D] for B cameras, and the weights [B,2] of their negative prompts, at most 0.

        First come the B conditional ones, each a mix of the two nearest sides; then the B unconditional ones; then two
        negatives for each camera, one camera after the other. A camera above the object has negatives of weight 0.
        A weight is −(a exp(−b r) + c), r the share of a side (Armandpour et al. 2023); a, b, c are threestudio's.

        Args:
            elevation: [B], degrees.
            azimuth: [B], degrees.
            camera_distances: [B]; not used, a part of threestudio's signature.
            view_dependent_prompting: must be true.

        Raises:
            UserError: `view_dependent_prompting` is false.
        """
        if not view_dependent_prompting:
            raise UserError("Perp-Neg needs `view_dependent_prompting`; set it to true or `use_perp_neg` to false")
        words, nothing = self.text_embeddings_vd, self.uncond_text_embeddings_vd
        limits = self.front_threshold, self.back_threshold, self.overhead_threshold
        sides = directions(elevation, azimuth, *limits).tolist()
        around = ((azimuth + 180) % 360 - 180).abs().tolist()
        cond, negatives, weights = [], [], []
        for side, angle in zip(sides, around, strict=True):
            near, far, r = (FRONT, SIDE, 1 - angle / 90) if angle < 90 else (SIDE, BACK, 2 - angle / 90)
            if side == OVERHEAD:
                cond.append(words[OVERHEAD])
                negatives += [nothing[OVERHEAD], nothing[OVERHEAD]]
                weights.append([0.0, 0.0])
                continue
            cond.append(r * words[near] + (1 - r) * words[far])
            if near == FRONT:
                negatives += [words[FRONT], words[SIDE]]
                weights.append([self._negative("fs", r), self._negative("sf", 1 - r)])
            else:
                negatives += [words[SIDE], words[FRONT]]
                weights.append([self._negative("sb", r), self._negative("fsb", r)])
        texts = torch.cat([torch.stack(cond), nothing[sides], torch.stack(negatives)])
        return texts, torch.tensor(weights, device=texts.device)

    def _negative(self, name: str, share: float) -> float:
        a, b, c = self.perp_neg_decays[name]
        return -(a * math.exp(-b * share) + c)

    def get_text_embeddings(
        self, elevation: Tensor, azimuth: Tensor, camera_distances: Tensor, view_dependent_prompting: bool = True
    ) -> Tensor:
        """Embeddings [2B,T,D] for B cameras: conditional ones first, then unconditional.

        Args:
            elevation: [B], degrees.
            azimuth: [B], degrees.
            camera_distances: [B]; not used, a part of threestudio's signature.
            view_dependent_prompting: False takes the prompt itself for every camera.
        """
        if not view_dependent_prompting:
            both = torch.cat([self.text_embeddings, self.uncond_text_embeddings])
            return both.repeat_interleave(len(elevation), dim=0)
        limits = self.front_threshold, self.back_threshold, self.overhead_threshold
        index = directions(elevation, azimuth, *limits).to(self.text_embeddings_vd.device)
        return torch.cat([self.text_embeddings_vd[index], self.uncond_text_embeddings_vd[index]])
