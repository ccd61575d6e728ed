"""What every model family is held to: diffusers' own pipeline, and two visits of pullback-nerf-tiny.yaml."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import gguf_file
import pullback
import torch
from pullback import diffreps, models
from pullback.evaluate.plan.counting import count
from pullback.evaluate.plan.networks import describe
from pullback.host import launch
from pullback.models import families
from pullback.models.flow import FlowSchedule
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensorMode

PROMPT, NEGATIVE, SCALE, STEPS = "a red cube", "blue ball", 2.5, (0.95, 0.6, 0.25)


def pipeline(folder: Path) -> Any:
    """Diffusers' pipeline of a folder, silent."""
    index = json.loads((folder / "model_index.json").read_text())
    absent = {name: None for name, part in index.items() if part == [None, None]}
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **absent)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def same(
    folder: Path,
    run: Callable[..., Any],
    flow: bool = True,
    scale: float = SCALE,
    noise_scale: float = 1.0,
    choose: Callable[[Any], None] = lambda scheduler: scheduler.set_timesteps(sigmas=list(STEPS)),
) -> Any:
    """Checks that our sampler of f(θ) = θ ends where the pipeline does.

    Args:
        folder: The model's.
        run: (pipe, latents z at the first step [1,c,h,w], steps as the pipeline takes them) -> final latents.
        flow: Whether the model is one of flow matching, else DDIM takes its steps.
        scale: Of guidance, in our convention.
        noise_scale: k of z = (1 − t) x0 + k t ε.
        choose: Has the scheduler of a flow-matching model take its three steps.

    Returns:
        The model, and its pipeline.
    """
    pipe, model = pipeline(folder), models.load(folder)
    ends_alike(pipe, model, run, flow, scale, noise_scale, choose)
    half(folder, model)
    from_gguf(folder, model)
    return model, pipe


def ends_alike(
    pipe: Any,
    model: Any,
    run: Callable[..., Any],
    flow: bool = True,
    scale: float = SCALE,
    noise_scale: float = 1.0,
    choose: Callable[[Any], None] = lambda scheduler: scheduler.set_timesteps(sigmas=list(STEPS)),
) -> None:
    """Checks that our sampler of f(θ) = θ with a model ends where its pipeline does; arguments as for `same`."""
    if flow:
        choose(pipe.scheduler)
        t = pipe.scheduler.sigmas.double()
        sigmas, steps = noise_scale * t / (1 - t), list(STEPS)
    else:
        pipe.scheduler.set_timesteps(3)
        steps, levels = pipe.scheduler.timesteps, model.schedule.sigmas
        sigmas = torch.cat([levels[steps], torch.zeros(1)])
    rep = diffreps.Pixels(1, model.latent_channels, model.sample_size, model.sample_size).double()
    guided = models.GuidedDenoiser(model, models.fixed_text(model, PROMPT, NEGATIVE), scale)
    generator = torch.Generator().manual_seed(3)
    solver = pullback.GaussNewton()
    states = list(pullback.steps(rep, [0], lambda y, s, v: guided(y, s, v), sigmas, solver=solver, generator=generator))
    noise: Any = states[0].noise
    first = noise * (sigmas[0] * (1 - t[0]) if flow else sigmas[0] / (1 + sigmas[0] ** 2).sqrt())
    with torch.no_grad():
        theirs = run(pipe, first.float(), steps).double()
    ours = rep.render([0]).detach()
    assert theirs.std() > 0.01 and (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    # both depend on the prompts
    other = models.GuidedDenoiser(model, models.fixed_text(model, NEGATIVE, PROMPT), scale)
    y, sigma = sigmas[0] * noise, float(sigmas[0])
    difference = (other(y, sigma, [0]) - guided(y, sigma, [0])).abs().max() / ours.abs().max()
    assert difference > 1e-3, difference


def half(folder: Path, model: Any) -> None:
    """Checks the family's half precision: one dtype throughout, the time in full, and nearly the answer of float32.

    Some networks round the time to their own dtype, so the answers are compared where that changes nothing.

    Args:
        folder: The model's.
        model: It, in float32.
    """
    narrow = models.load(folder, dtype=families.of(models.ModelFolder(folder), str(folder)).half)
    generator, times, answers = torch.Generator().manual_seed(4), [], []
    z = torch.randn(1, model.latent_channels, model.sample_size, model.sample_size, generator=generator)
    for t in (0.5, 0.5013):
        sigma = model.schedule.noise_scale * t / (1 - t) if isinstance(model.schedule, FlowSchedule) else 2 * t
        for of in (model, narrow):
            hook = of.network.register_forward_pre_hook(
                lambda _, args, kwargs: times.append(kwargs["timestep"] if "timestep" in kwargs else args[1]),
                with_kwargs=True,
            )
            text = of.encode_prompt([PROMPT])
            answers.append(of.predict_x0((1 + sigma) * z, sigma, text))
            hook.remove()
    # 501.3 would be 502 in bfloat16
    assert {time.dtype for time in times} == {torch.float32}
    assert torch.equal(times[0], times[1]) and torch.equal(times[2], times[3]) and not torch.equal(times[1], times[3])
    kinds = [text.dtype] if isinstance(text, torch.Tensor) else [x.dtype for x in text.tensors.values()]
    assert {kind for kind in kinds if kind.is_floating_point} == {p.dtype for p in narrow.network.parameters()}
    full, found, *_ = answers
    assert found.dtype == torch.float32 and 0 < (found - full).abs().max() < 0.05 * full.abs().max()


def from_gguf(folder: Path, model: Any) -> None:
    """Checks that a transformer of Q8_0 in a GGUF file nearly gives the answer of float32, where diffusers reads one.

    Args:
        folder: The model's.
        model: It, in float32.
    """
    if not (folder / "transformer").is_dir() or not hasattr(type(model.network), "from_single_file"):
        return
    (weights,) = (folder / "transformer").glob("*.safetensors")
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "model.gguf"
        gguf_file.write(file, load_file(weights))
        small = models.load(file, single_file_config=folder)
    generator, size = torch.Generator().manual_seed(5), model.sample_size
    y, text = torch.randn(1, model.latent_channels, size, size, generator=generator), model.encode_prompt([PROMPT])
    full, found = (of.predict_x0(3 * y, 2.0, text) for of in (model, small))
    assert torch.uint8 in {p.dtype for p in small.network.parameters()}
    assert 0 < (found - full).norm() < 0.01 * full.norm()


def pictures(model: Any, decoded: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Checks latents: decoding is the pipeline's, and encoding is its inverse but for the autoencoder.

    Args:
        model: Ours.
        decoded: Latents [V,c,h,w] as the network takes them -> images, by the pipeline's own lines.
    """
    generator = torch.Generator().manual_seed(0)
    size = model.sample_size
    latents = torch.randn(2, model.latent_channels, size, size, generator=generator)
    with torch.no_grad():
        expected = decoded(latents)
    assert torch.allclose(model.decode(latents), expected, atol=1e-5)
    assert torch.allclose(model.decode(latents, chunk=1), expected, atol=1e-5)
    images = torch.rand(2, 3, model.image_size, model.image_size, generator=generator) * 2 - 1
    z = model.encode(images)
    assert z.shape == latents.shape
    with torch.no_grad():
        vae, x = model.vae, images
        videos = "temperal_downsample" in vae.config
        output = vae.encode(x[:, :, None] if videos else x)
        mean = output.latent if hasattr(output, "latent") else output.latent_dist.mode()
        again = vae.decode(mean).sample
    assert torch.allclose(model.decode(z), again[:, :, 0] if videos else again, atol=1e-4)


def planned(folder: Path) -> None:
    """Checks what `pullback plan` counts from the folder's configs, against its weights and a real call.

    Parameters are those in the headers of the safetensors files; products are those of a call with data.
    """
    model, described = models.load(folder), describe(str(folder), None, "x")
    noisy = 1, model.latent_channels, model.sample_size, model.sample_size
    with torch.no_grad():
        with FakeTensorMode(allow_non_fake_inputs=True), count():
            counted: Any = described.model(torch.device("cpu"), torch.float32)
            text: Any = described.prompts(counted, 1)
            with count(described.tokens) as cost:
                counted.predict_x0(torch.zeros(noisy), 1.0, text)
        rows = {name: torch.ones(rows.shape, dtype=rows.dtype) for name, rows in text.tensors.items()}
        with count() as real:
            model.predict_x0(torch.zeros(noisy), 1.0, models.Conditioning(rows))
    assert cost.flops == real.flops > 0
    with model.text.loaded() as pipe:
        networks = {part: getattr(pipe, part) for part in described.parameters if part != "vae"}
    networks |= {} if model.vae is None else {"vae": model.vae}
    for part, network in networks.items():
        buffers = {name for name, _ in network.named_buffers()}
        shapes = models.ModelFolder(folder).shapes(part)
        held = sum(math.prod(shape) for name, shape in shapes.items() if name not in buffers)
        assert described.parameters[part] == held


def two_visits(folder: Path, out: Path, *more: str) -> None:
    """Checks two visits of pullback-nerf-tiny.yaml, with the model in place of the shipped one."""
    from test_system import SMALL

    line = ["--config", "configs/pullback-nerf-tiny.yaml", "--train", f"exp_root_dir={out}", "tag=t"]
    line += [
        *SMALL,
        "system.prompt_processor.prompt=a red cube",
        "system.guidance.levels=2",
        "system.guidance.cycles=1",
    ]
    assert launch.main([*line, f"system.guidance.pretrained_model_name_or_path={folder}", *more]) == 0
    state = torch.load(out / "pullback-nerf-tiny" / "t" / "ckpts" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 2 and state["pullback"]["nfe"] == 2 * 2 * 2
