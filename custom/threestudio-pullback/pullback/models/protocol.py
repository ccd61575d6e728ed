"""Protocols of a model of any family, and prompts as its network takes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..denoiser import Sigma


@dataclass(frozen=True)
class Conditioning:
    """B prompts for a network with several inputs, with the methods of a tensor [B,...] that callers use.

    Attributes:
        tensors: Tensors [B,...] by names of the family's own, such as embeddings, mask and pooled embeddings.
    """

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Any) -> Conditioning:
        return join(lambda tensor: tensor[rows], self)

    def to(self, *args: Any, **kwargs: Any) -> Conditioning:
        """All tensors, moved or cast."""
        return join(lambda tensor: tensor.to(*args, **kwargs), self)

    def split(self, size: int | list[int]) -> tuple[Conditioning, ...]:
        """Parts of at most `size` prompts, or of these sizes."""
        if isinstance(size, int):
            return tuple(self[start : start + size] for start in range(0, len(self), size))
        ends = itertools.accumulate(size)
        return tuple(self[end - count : end] for count, end in zip(size, ends, strict=True))

    def unflatten(self, dim: int, sizes: tuple[int, ...]) -> Conditioning:
        """All tensors, with one dimension split up."""
        return join(lambda tensor: tensor.unflatten(dim, sizes), self)

    def chunk(self, count: int) -> tuple[Conditioning, ...]:
        """The prompts in `count` parts."""
        return self.split(-(-len(self) // count))


Prompts = Tensor | Conditioning
"""B prompts: embeddings [B,T,D] of a network that takes no more, else a `Conditioning`."""


def join(change: Callable[..., Tensor], *parts: Any) -> Any:
    """Calls change(part, ...) with tensors, or name by name with the tensors of `Conditioning`s.

    Args:
        change: (tensor, ...) -> tensor.
        *parts: `Prompts` of one kind.

    Returns:
        Prompts of that kind.

    Raises:
        ValueError: Some parts are tensors and some not, or their names differ.
    """
    if all(isinstance(part, Tensor) for part in parts):
        return change(*parts)
    if len({isinstance(part, Tensor) or frozenset(part.tensors) for part in parts}) > 1:
        raise ValueError("prompts of different model families cannot be joined")
    return Conditioning({name: change(*(part.tensors[name] for part in parts)) for name in parts[0].tensors})


def cat(*parts: Prompts) -> Prompts:
    """All prompts of the parts, one part after the other; shorter ones get zeros, which a mask leaves out."""
    return join(_cat, *parts)


def _cat(*tensors: Tensor) -> Tensor:
    longest = max(tensor.shape[1] for tensor in tensors) if tensors[0].ndim > 1 else 0
    return torch.cat([_longer(tensor, longest) for tensor in tensors])


def _longer(tensor: Tensor, length: int) -> Tensor:
    if tensor.ndim < 2 or tensor.shape[1] == length:
        return tensor
    return torch.cat([tensor, tensor.new_zeros(len(tensor), length - tensor.shape[1], *tensor.shape[2:])], 1)


def expand(prompts: Prompts, count: int) -> Prompts:
    """One prompt for all of `count` views, or `count` prompts unchanged.

    Raises:
        ValueError: There is another number of prompts.
    """
    if len(prompts) not in (1, count):
        raise ValueError(f"{len(prompts)} text embeddings for {count} views")
    return join(lambda tensor: tensor.expand(count, *tensor.shape[1:]), prompts)


class Levels(Protocol):
    """The noise levels of a model's training."""

    @property
    def sigmas(self) -> Tensor:
        """[T], float64, increasing."""
        ...


class LatentModel(Protocol):
    """A frozen text-to-image model as posterior means of latents in variance-exploding coordinates.

    It is no nn.Module, so a module that owns it neither trains nor checkpoints its weights. Images are [V,3,H,W] in
    [-1,1], latents [V,c,h,w] as the network takes them; the latents of a model of pixels are images.
    """

    @property
    def device(self) -> torch.device:
        """The networks' device."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The networks' dtype."""
        ...

    @property
    def schedule(self) -> Levels:
        """The noise levels of the training."""
        ...

    @property
    def sigma_min(self) -> float:
        """The lowest σ that the model takes."""
        ...

    @property
    def sigma_max(self) -> float:
        """The highest σ that the model takes."""
        ...

    @property
    def sample_size(self) -> int:
        """Height and width of the training's latents."""
        ...

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent, along each side."""
        ...

    @property
    def image_size(self) -> int:
        """Height and width of the training's images, in pixels."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels c of the latents."""
        ...

    @property
    def fingerprint(self) -> Callable[[], str]:
        """() -> 64 hex digits that change with any byte of weights or configs."""
        ...

    @property
    def save_memory(self) -> Callable[..., None]:
        """Trades speed for memory, with threestudio's names as keywords.

        Raises:
            ModelError: The model cannot take an option; the message names it.
        """
        ...

    def encode_prompt(self, prompts: list[str]) -> Any:
        """`Prompts` of B texts, as `predict_x0` takes them."""
        ...

    def check_image_size(self, height: int, width: int) -> None:
        """Checks a size of images.

        Raises:
            ModelError: The model cannot take it; the message names height or width.
        """
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images → latents, differentiable.

        Raises:
            ModelError: The model cannot take images of this size.
        """
        ...

    def decode(self, latents: Tensor, chunk: int | None = None) -> Tensor:
        """Latents → images, at most `chunk` at a time; no gradients."""
        ...

    def predict_x0(self, noisy: Tensor, sigma: Sigma, text: Any) -> Tensor:
        """Posterior mean x̂0 [V,c,h,w] of noisy = x0 + σ ε, given V `Prompts`; no gradients.

        Raises:
            UserError: A sigma lies outside [sigma_min, sigma_max].
        """
        ...


@runtime_checkable
class TrainableModel(LatentModel, Protocol):
    """A `LatentModel` that a LoRA can adapt."""

    @property
    def network(self) -> Any:
        """The network that predicts, an nn.Module.

        Its attention has projections to_q, to_k, to_v and to_out. Its `time_embedding` returns the time's embedding
        [V,E], with E = time_embedding.linear_2.out_features.
        """
        ...

    def differentiable_x0(self, noisy: Tensor, sigma: Sigma, text: Any) -> Tensor:
        """`predict_x0`, with gradients where they are enabled."""
        ...

    def output_scale(self, sigma: Any) -> Any:
        """The change of the network's output per change of x̂0 at a level: 1/σ where it predicts ε."""
        ...
