"""A frozen diffusion model with a small trainable part: low-rank changes of its attention, and the camera's pose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..denoiser import Sigma, per_view
from ..errors import UserError
from .protocol import LatentModel, Prompts, TrainableModel, cat


class LowRank(nn.Module):
    """A low-rank change of a linear layer, x [...,i] → up(down(x)) [...,o], at first 0.

    Args:
        linear: The layer.
        rank: Of the change; `down` is normal with standard deviation 1/rank.
    """

    def __init__(self, linear: nn.Linear, rank: int):
        super().__init__()
        at = {"device": linear.weight.device, "dtype": torch.float32}
        self.down = nn.Parameter(torch.randn(rank, linear.in_features, **at) / rank)
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank, **at))

    def forward(self, x: Tensor) -> Tensor:
        """The change of the layer's output."""
        return x.to(self.down.dtype) @ self.down.T @ self.up.T


class CameraEmbedding(nn.Module):
    """Sixteen numbers of a camera → linear → SiLU → linear, as wide as the time's embedding."""

    def __init__(self, width: int, device: torch.device):
        super().__init__()
        self.linear_1 = nn.Linear(16, width, device=device)
        self.linear_2 = nn.Linear(width, width, device=device)

    def forward(self, camera: Tensor) -> Tensor:
        """Embeddings [V,E] of cameras [V,4,4]."""
        return self.linear_2(nn.functional.silu(self.linear_1(camera.flatten(1).to(self.linear_1.weight))))


class LoRA(nn.Module):
    """x̂0 of a model whose attention projections W become W + up·down, and which sees the camera as well as the time.

    It owns its additions (float32) and nothing of the model, which stays unchanged: hooks change the network's
    projections to_q, to_k, to_v and to_out[0] and its embedding of the time during a call of this module only, in this
    thread. A new one differs from the model by the camera's embedding.
    Source: Hu et al. 2021 (LoRA); the camera's embedding: Wang et al. 2023 (ProlificDreamer), threestudio.

    Args:
        model: From `models.load`.
        rank: Of the changes, at least 1.

    Raises:
        UserError: `rank` is below 1, or the model has no such attention.
    """

    def __init__(self, model: LatentModel, rank: int = 4):
        super().__init__()
        if rank < 1:
            raise UserError(f"rank of a LoRA must be at least 1, not {rank}")
        if not isinstance(model, TrainableModel):
            raise UserError(f"a {type(model).__name__} has no attention that a LoRA could adapt; use another model")
        self.model = model  # no nn.Module, so no part of this one
        self._linears = dict(_projections(model.network))
        if not self._linears:
            raise UserError("the network has no attention whose projections could be adapted")
        # a module's name must not hold the dots of a path
        names = {path: path.replace(".", "-") for path in self._linears}
        self.layers = nn.ModuleDict({names[path]: LowRank(linear, rank) for path, linear in self._linears.items()})
        self._additions: list[tuple[nn.Module, nn.Module]] = [
            (linear, self.layers[names[path]]) for path, linear in self._linears.items()
        ]
        time = model.network.time_embedding
        self.camera = CameraEmbedding(time.linear_2.out_features, model.device)

    def forward(self, noisy: Tensor, sigma: Sigma, text: Prompts, camera: Tensor) -> Tensor:
        """x̂0 [V,c,h,w], with gradients of this module's parameters where they are enabled.

        Args:
            noisy: u + σε [V,c,h,w].
            sigma: σ, a number or [V].
            text: V `Prompts`.
            camera: [V,4,4]; zeros for none.
        """
        with self._attached(camera):
            return self.model.differentiable_x0(noisy, sigma, text)

    def loss(self, clean: Tensor, text: Prompts, camera: Tensor, times: Tensor, noise: Tensor) -> Tensor:
        """The mean square error of what the network predicts (ε, v or x0), as the model itself was trained.

        Args:
            clean: u [V,c,h,w].
            text: V `Prompts`.
            camera: [V,4,4].
            times: t [V], integers.
            noise: ε like clean.
        """
        sigma = self.model.schedule.sigmas.to(clean.device)[times]
        column = per_view(sigma, clean)
        error = self(clean + column * noise, sigma, text, camera) - clean
        return (self.model.output_scale(column) * error).square().mean()

    @contextmanager
    def _attached(self, camera: Tensor) -> Iterator[None]:
        """A context in which the network has the changes."""
        pose = self.camera(camera)
        hooks = [linear.register_forward_hook(partial(_add, layer)) for linear, layer in self._additions]
        hooks.append(self.model.network.time_embedding.register_forward_hook(lambda _, __, out: out + pose.to(out)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _add(layer: nn.Module, linear: nn.Module, inputs: tuple[Any, ...], out: Tensor) -> Tensor:
    return out + layer(inputs[0]).to(out)


def _projections(unet: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """Path and layer of every linear projection of the UNet's attentions."""
    for path, module in unet.named_modules():
        if not all(hasattr(module, name) for name in ("to_q", "to_k", "to_v", "to_out")):
            continue
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            layer = module.get_submodule(name)
            if isinstance(layer, nn.Linear):
                yield f"{path}.{name}", layer


class TunedDenoiser:
    """A `LoRA` as the second model of VSD in the core (`baselines.vsd.Second`), with its own optimiser.

    The views of several particles come one particle after the other; text and camera are then repeated.

    Args:
        lora: The trained module.
        text: Views -> V `Prompts`, or one for all.
        camera: Views -> [V,4,4].
        lr: Learning rate of AdamW.
    """

    nfe_per_view = 1

    def __init__(self, lora: LoRA, text: Callable[[Any], Prompts], camera: Callable[[Any], Tensor], lr: float = 1e-4):
        self.lora, self.text, self.camera = lora, text, camera
        self.optimizer = torch.optim.AdamW(lora.parameters(), lr=lr)

    @torch.no_grad()
    def __call__(self, noisy: Tensor, sigma: Sigma, views: Any) -> Tensor:
        """x̂0 [V,c,h,w]."""
        return self.lora(noisy, sigma, *self._inputs(views, len(noisy)))

    @torch.enable_grad()
    def learn(self, clean: Tensor, views: Any, generator: torch.Generator) -> int:
        """Takes one step at random times; returns its denoiser calls."""
        at = {"generator": generator, "device": generator.device}
        times = torch.randint(len(self.lora.model.schedule.sigmas), (len(clean),), **at).to(clean.device)
        noise = torch.randn(clean.shape, dtype=clean.dtype, **at).to(clean.device)
        self.optimizer.zero_grad()
        self.lora.loss(clean, *self._inputs(views, len(clean)), times, noise).backward()
        self.optimizer.step()
        return len(clean)

    def _inputs(self, views: Any, count: int) -> tuple[Prompts, Tensor]:
        text, camera = self.text(views), self.camera(views)
        return cat(*[text] * (count // len(text))), camera.repeat(count // len(camera), 1, 1)
