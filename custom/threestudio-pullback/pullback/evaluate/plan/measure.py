"""Runs the parts of a visit once on tensors without data, and adds up what they cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from ...adapters.guidance.guidance import PullbackGuidance
from ...adapters.rendered_field import RenderedField
from ...adapters.systems.sampling import PullbackSystem
from ...errors import UserError
from ...fitting import FirstOrder, Fit
from ...host import base, config
from ...host.embeddings import DIRECTIONS, PromptUtils
from ...host.registry import find
from ...host.training.optimisers import parse_optimizer
from ...models.configured import MEMORY
from ...models.memory import chosen
from ...models.words import Words
from .bill import EMBED, NETWORK_PARTS, Bill, Phase
from .counting import count
from .networks import PROMPT, Described

CPU = torch.device("cpu")


def measure(cfg: Any, described: Described, half: bool, only: Sequence[str] | None = None) -> Bill:
    """The cost of a config's run.

    Args:
        cfg: The parsed config.
        described: The configs of its model.
        half: Whether the networks are in half precision, as `half_precision_weights` has it on a GPU.
        only: The phases to measure; all by default.

    Raises:
        UserError: The config's system or guidance is not one that samples.
    """
    check_samples(cfg)
    with FakeTensorMode(allow_non_fake_inputs=True), _on_cpu():
        with count() as cost:
            model = described.model(CPU, torch.float16 if half else torch.float32)
            weights = cost.live
        described.prompts(model, 1)  # text encoders are gone before anything else is counted
        with count() as cost:
            run = Run(cfg, model, described)
            field = cost.live
        phases = dict(run.phases(half, only))
    made = described.parameters
    parameters = {name: made[part] for part, name in NETWORK_PARTS.items() if part in made}
    parameters |= {"autoencoder": made["vae"]} if "vae" in made else {}
    parameters["text encoder"] = described.text_parameters
    parameters["field"] = sum(p.numel() for group in run.optimizer.param_groups for p in group["params"])
    samples_rays = "num_samples_per_ray" in run.renderer.cfg
    small, (plain,) = described.quantised_size, (made[part] for part in NETWORK_PARTS if part in made)
    plain *= 2 if half else 4
    whole = small or plain
    bill = Bill(
        parameters, weights - plain + whole, field, run.visits, run.count, run.calls, phases, half, samples_rays,
        whole, whole, small is not None,
    )  # fmt: skip
    if not half:  # the presets are for half precision
        return bill
    options = run.guidance.cfg
    keys = options.memory, options.enable_layerwise_casting, options.enable_group_offload
    kept = chosen(*keys, whole, 2 * bill.text, bill.quantised, options.enable_4bit_weights)
    if kept.text_on_cpu:
        phases[EMBED] = dataclasses.replace(phases[EMBED], activations=0)
    held = round(kept.weights(whole))
    return dataclasses.replace(bill, weights=bill.weights - whole + held, held=held)


class Run:
    """The parts of a run, with data or without.

    Args:
        cfg: The parsed config.
        model: Its model.
        described: The model's configs.
        device: Of the model and of all parts; tensors without data are on the CPU.
    """

    def __init__(self, cfg: Any, model: Any, described: Described, device: torch.device = CPU) -> None:
        system: Any = find(cfg.system_type)(cfg.system)
        system = system if device == CPU else system.to(device)  # PyTorch cannot move what has no data
        self.model, prompts = model, described.prompts(model, 2 + len(DIRECTIONS), device)
        self.tokens = described.tokens
        guidance = self.guidance = _with_model(find(system.cfg.guidance_type), model, prompts)(system.cfg.guidance)
        options = guidance.cfg
        model.save_memory(**{name: options[name] for name in MEMORY if name in options})
        with _disable_current_modes():  # the levels are numbers that are read
            sigmas = guidance.sigmas()
            self.sigmas = [float(sigma) for sigma in sigmas[:-1]]
        self.levels = len(self.sigmas)
        self.denoise = guidance.denoiser(_prompt_utils(system.cfg.prompt_processor, prompts))
        kind = find(cfg.data_type)
        views = kind.training(config.parse_structured(kind.Config, cfg.data)).draw(0)
        self.views = {key: v.to(device) if isinstance(v, Tensor) else v for key, v in views.items()}
        self.count, self.height, self.width, _ = self.views["rays_o"].shape
        self.visits = self.levels * guidance.constraint().cycles
        self.twice, self.multistep = options.order == 2, options.order == "multistep"
        self.fit_steps, self.rays = int(options.fit_steps), int(options.fit_rays)
        self.optimizer = parse_optimizer(config.config_to_primitive(cfg.system.optimizer), system, "system.optimizer")
        for group in self.optimizer.param_groups:  # so that its memory is there, as it is after the first step
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad()
        surroundings = [system.material, system.background]
        self.field: Any = RenderedField(system.renderer, system.geometry, surroundings, self.rays)
        system.train()
        self.renderer = system.renderer
        self.part, self.whole = self._part_of_a_picture()
        self.latent = model.latent_channels, model.sample_size, model.sample_size

    @property
    def network_visits(self) -> int:
        """Visits of a run by their network calls: Heun's rule makes two, but for the last level."""
        return 2 * self.visits - self.visits // self.levels if self.twice else self.visits

    @property
    def calls(self) -> int:
        """See `Bill`."""
        return round(self.network_calls * self.count * self.denoise.nfe_per_view)

    @property
    def network_calls(self) -> float:
        """Calls of a run for all views, as many as if all were guided: of visits, and two of the check at the end."""
        policy, most = self.guidance.policy(), self.denoise.nfe_per_view
        shares = [1.0 if policy.guides(sigma, 0.0) else 1 / most for sigma in self.sigmas]
        checked = min(self.sigmas, key=lambda sigma: abs(sigma - 1))
        return self.network_visits * sum(shares) / len(shares) + 2 * shares[self.sigmas.index(checked)]

    def phases(self, half: bool, only: Sequence[str] | None) -> Iterator[tuple[str, Phase]]:
        """Each phase, measured."""
        in_image = self.denoise.fit_space == "image"
        images, latents = torch.zeros(self.count, 3, self.height, self.width), torch.zeros(self.count, *self.latent)
        encode = None if in_image else self.denoise.encode
        self.denoise.render_size = self.height, self.width  # as an encoding has left it

        def phase(work: Callable[[], Any], times: float, half: bool, answer: float = 1.0) -> Phase:
            with count(answer) as cost:
                work()
            return Phase(times, cost.flops, cost.traffic, cost.launches, cost.synchronisations, cost.peak, half)

        visits, policy = self.network_visits, self.guidance.policy()
        guided = next((sigma for sigma in self.sigmas if policy.guides(sigma, 0.0)), self.sigmas[0])
        ways: dict[str, tuple[Any, ...]] = {
            # the two-step rule renders its past, too
            "render": (lambda: self.field.render(self.part), (3 if self.multistep else 1) * visits + 1, False),
            "encode": (lambda: self.denoise.encode(images), visits + 1, half),
            # a number that is read is how many tokens of a prompt count
            "denoise": (lambda: self.denoise(latents, guided, self.views), self.network_calls, half, self.tokens),
        }
        if in_image:
            ways["decode"] = lambda: self.denoise.decode(latents), visits, half
        if self.model.embeds_prompts:
            ways[EMBED] = lambda: self.model.encode_prompt([PROMPT]), 2 + len(DIRECTIONS), half
        with torch.no_grad():
            for name, way in ways.items():
                if only is None or name in only:
                    yield name, phase(*way).scaled(self.whole if name == "render" else 1)
        if self.model.embeds_prompts:
            self.model.text.release()
        if only is None or "fit step" in only:
            of_steps = partial(self._fit, images if in_image else latents, encode)
            one, two = (phase(partial(of_steps, n), visits * self.fit_steps, half and not in_image) for n in (1, 2))
            yield "fit step", two.without(one)

    def _fit(self, target: Tensor, encode: Callable[[Tensor], Tensor] | None, steps: int) -> None:
        solver = FirstOrder(steps=steps, optimizer=self.optimizer)
        solver.solve(Fit(self.field, self.views, target, encode, torch.Generator()))

    def _part_of_a_picture(self) -> tuple[dict[str, Any], float]:
        """As many rows of one view as are rendered at a time, and how many such parts there are."""
        cfg = self.renderer.cfg
        samples = cfg.num_samples_per_ray if "num_samples_per_ray" in cfg else None
        at_once = 2**16 if samples is None else max(1, cfg.eval_chunk_size // samples)
        rows = min(self.height, max(1, at_once // self.width))
        part = {**self.views, "height": rows}
        for key, value in self.views.items():
            if isinstance(value, Tensor) and value.ndim and len(value) == self.count:
                part[key] = value[:1, :rows] if key in ("rays_o", "rays_d") else value[:1]
        return part, self.count * self.height / rows


@contextmanager
def _on_cpu() -> Iterator[None]:
    """Parts are built on the CPU, also where there is a GPU: tensors without data take no place."""
    before, base.get_device = base.get_device, lambda: CPU
    try:
        yield
    finally:
        base.get_device = before


def check_samples(cfg: Any) -> None:
    """Checks that a config's run samples.

    Raises:
        UserError: It has another system or guidance.
    """
    system = find(cfg.system_type, "system_type")
    if not issubclass(system, PullbackSystem):
        raise UserError(f"`system_type` is {cfg.system_type!r}, but a plan is of pullback-system; give such a config")
    guidance = find(cfg.system.get("guidance_type", ""), "system.guidance_type")
    if not issubclass(guidance, PullbackGuidance):
        raise UserError(
            f"`system.guidance_type` is {cfg.system.guidance_type!r}, but a plan is of pullback-guidance; give such a "
            "config"
        )


def _with_model(kind: Any, model: Any, prompts: Any) -> Any:
    """The guidance of a model that is there, whose prompts are embedded."""

    class WithModel(kind):
        def configure(self) -> None:
            self.model = model
            if model.embeds_prompts:
                self._words = lambda utils, negative: Words(utils, prompts)

    return WithModel


def _prompt_utils(cfg: Any, prompts: Any) -> PromptUtils:
    """Embeddings as the prompt processor's; of a model that embeds prompts itself, as good as none."""
    rows = prompts if isinstance(prompts, Tensor) else torch.zeros(len(prompts), 1, 1)
    one, sides = rows[:1], rows[2:]
    return PromptUtils(
        "", [""] * len(DIRECTIONS), one, one, sides, sides,
        cfg.get("front_threshold", 45.0), cfg.get("back_threshold", 45.0), cfg.get("overhead_threshold", 60.0),
        bool(cfg.get("use_perp_neg", False)),
        {name: tuple(cfg.get(f"perp_neg_f_{name}", (1.0, 1.0, 1.0))) for name in ("sb", "fsb", "fs", "sf")},
    )  # fmt: skip
