"""What every model family offers, and what a prompt is to its network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..denoiser import Sigma


@dataclass(frozen=True)
class Conditioning:
    """Prompts as a network with several inputs takes them: named tensors whose first axis is the prompt, [B,...].

    The names are the family's own, for example embeddings, mask and pooled embeddings; nobody else reads them. It has
    the methods of a tensor [B,...] that callers use, so that both can stand where a `Prompts` is wanted.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Any) -> Conditioning:
        return self._each(lambda tensor: tensor[rows])

    def to(self, *args: Any, **kwargs: Any) -> Conditioning:
        return self._each(lambda tensor: tensor.to(*args, **kwargs))

    def split(self, size: int) -> tuple[Conditioning, ...]:
        return tuple(self[start : start + size] for start in range(0, len(self), size))

    def chunk(self, count: int) -> tuple[Conditioning, ...]:
        return self.split(-(-len(self) // count))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return Conditioning({name: change(tensor) for name, tensor in self.tensors.items()})


Prompts = Tensor | Conditioning
"""B prompts: embeddings [B,T,D] of a network that takes no more, else a `Conditioning`."""


def join(change: Callable[..., Tensor], *parts: Any) -> Any:
    """change(part, ...) of `Prompts` that are tensors, or name by name of those that are `Conditioning`s.

    Raises:
        ValueError: some are tensors and some not, or their names differ.
    """
    if all(isinstance(part, Tensor) for part in parts):
        return change(*parts)
    if len({isinstance(part, Tensor) or frozenset(part.tensors) for part in parts}) > 1:
        raise ValueError("prompts of different model families cannot be joined")
    return Conditioning({name: change(*(part.tensors[name] for part in parts)) for name in parts[0].tensors})


def cat(*parts: Prompts) -> Prompts:
    """All prompts of the parts, one part after the other."""
    return join(lambda *tensors: torch.cat(tensors), *parts)


def expand(prompts: Prompts, count: int) -> Prompts:
    """One prompt for `count` views, or `count` prompts as they are; raises ValueError for another number."""
    if len(prompts) not in (1, count):
        raise ValueError(f"{len(prompts)} text embeddings for {count} views")
    return join(lambda tensor: tensor.expand(count, *tensor.shape[1:]), prompts)


class Levels(Protocol):
    """The noise levels that a model was trained at."""

    @property
    def sigmas(self) -> Tensor:
        """[T], float64, increasing."""
        ...


class LatentModel(Protocol):
    """A frozen text-to-image model as posterior means of latents in variance-exploding coordinates.

    No nn.Module: a module that owns it neither trains nor checkpoints its weights. Images are [V,3,H,W] in [-1,1],
    latents [V,c,h,w] of the size the network sees; a model of pixels has latents that are images.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def schedule(self) -> Levels: ...

    @property
    def sigma_min(self) -> float: ...

    @property
    def sigma_max(self) -> float: ...

    @property
    def sample_size(self) -> int:
        """Latent height and width that the network was trained at."""
        ...

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, along each side."""
        ...

    @property
    def image_size(self) -> int:
        """Image height and width that the model was trained at, in pixels."""
        ...

    @property
    def latent_channels(self) -> int: ...

    @property
    def fingerprint(self) -> Callable[[], str]:
        """() -> 64 hex digits that change with any byte of weights or configs."""
        ...

    def encode_prompt(self, prompts: list[str]) -> Any:
        """`Prompts` of B texts, as `predict_x0` takes them."""
        ...

    def check_image_size(self, height: int, width: int) -> None:
        """Raises ModelError, naming `height` or `width`, for images that the model cannot take."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images → latents, differentiable. Raises ModelError for a size that the model cannot take."""
        ...

    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        """Latents → images, at most `chunk` at a time; no gradients."""
        ...

    def predict_x0(self, noisy: Tensor, sigma: Sigma, text: Any) -> Tensor:
        """Posterior mean x̂0 [V,c,h,w] of noisy = x0 + σ ε, given V `Prompts`; no gradients.

        Raises UserError for a sigma outside [sigma_min, sigma_max].
        """
        ...

    @property
    def save_memory(self) -> Callable[..., None]:
        """Trades speed for memory, by threestudio's names; raises ModelError, naming the option that it cannot take."""
        ...


@runtime_checkable
class TrainableModel(LatentModel, Protocol):
    """A `LatentModel` that a LoRA can adapt."""

    @property
    def network(self) -> nn.Module:
        """What predicts; its attention has projections to_q, to_k, to_v and to_out."""
        ...

    @property
    def time_embedding(self) -> Any:
        """The part of the network whose output, [V,E], embeds the time, with its width in linear_2.out_features."""
        ...

    def differentiable_x0(self, noisy: Tensor, sigma: Sigma, text: Any) -> Tensor:
        """`predict_x0`, with gradients where they are enabled."""
        ...

    def output_scale(self, sigma: Any) -> Any:
        """The change of the network's output per change of x̂0 at a level: 1/σ where it predicts ε."""
        ...
