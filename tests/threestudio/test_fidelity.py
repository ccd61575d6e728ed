"""The host's SDS, SJC, VSD and SDI against threestudio's own: same weights, latents, noise and t, in double precision.

threestudio answers in a process of its own, see reference.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
import torch
from conftest import REPOSITORY, Threestudio
from pullback.host.distillation import (
    guidance as distillation,
)
from pullback.host.distillation import (
    sdi as sdi_guidance,
)
from pullback.host.distillation import (
    sds as sds_guidance,
)
from pullback.host.distillation import (
    vsd as vsd_guidance,
)
from pullback.host.embeddings import PromptUtils

sys.path.insert(0, str(REPOSITORY / "tests"))
from tiny_pipeline import build

WIDTH = 8  # channels of the tiny UNet's first block
BATCH = 4
# front, side, back and from above
ANGLES = {"elevation": [0.0, 20.0, 30.0, 80.0], "azimuth": [10.0, 70.0, 160.0, -30.0]}
WITH_LORA = tuple(int(n) for n in diffusers.__version__.split(".")[:2]) < (0, 20)  # theirs needs that class

SDS: dict[str, dict[str, Any]] = {
    "sds": {"guidance_scale": 100.0},
    "uniform": {"weighting_strategy": "uniform", "guidance_scale": 7.5},
    "fantasia3d": {"weighting_strategy": "fantasia3d"},
    "sds-clipped": {"grad_clip": [0, 0.5, 1.5, 100]},
    "sds-annealed": {"sqrt_anneal": True, "trainer_max_steps": 40},
    "sds-plain-words": {"view_dependent_prompting": False},
    "perp-neg": {"guidance_scale": 7.5},
    "sjc": {"use_sjc": True},
    "sjc-whole": {"use_sjc": True, "var_red": False, "min_step_percent": [0, 0.1, 0.5, 20]},
}
VSD: dict[str, dict[str, Any]] = {
    "vsd": {},
    "vsd-scaled": {"guidance_scale_lora": 2.5, "lora_n_timestamp_samples": 2},
    "vsd-two-models": {"max_step_percent": [5, 0.98, 0.5, 6]},
    "vsd-mvp": {"camera_condition_type": "mvp", "lora_cfg_training": False},
}
SDI: dict[str, dict[str, Any]] = {
    "sdi": {"guidance_scale": 7.5, "min_step_percent": 0.25, "trainer_max_steps": 30},
    "sdi-early": {"guidance_scale": 7.5, "min_step_percent": 0.25},
    "sdi-perp-neg": {"guidance_scale": 7.5, "trainer_max_steps": 15},
    "sdi-four-steps": {"inversion_eta": 1.0, "t_anneal": False, "inversion_n_steps": 4},
    "sdi-drawn": {"enable_sdi": False, "t_anneal": False},
}
CASES = {**SDS, **(VSD if WITH_LORA else {}), **SDI}


def batch(count: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    cameras = torch.randn(2, count, 4, 4, generator=generator, dtype=torch.float64)
    angles = {name: torch.tensor(values[:count]) for name, values in ANGLES.items()}
    return {**angles, "camera_distances": torch.ones(count), "c2w": cameras[0], "mvp_mtx": cameras[1]}


@pytest.fixture(scope="module")
def request_of_all(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("models")
    model, other = build(folder / "sd"), build(folder / "v", prediction_type="v_prediction", seed=1)
    cases = {}
    for name, guidance in CASES.items():
        # theirs takes one picture at a time for SDI, and with more pairs Perp-Neg's negatives with the wrong ones
        single = name in SDI or "perp-neg" in name
        kind = "vsd_" if name in VSD else "sdi_" if name in SDI else ""
        options = {"pretrained_model_name_or_path": str(model), "half_precision_weights": False, **guidance}
        if name in VSD:
            options["pretrained_model_name_or_path_lora"] = str(other if name == "vsd-two-models" else model)
        count = 1 if single else BATCH
        generator = torch.Generator().manual_seed(len(name))
        cases[name] = {
            "module": f"stable_diffusion_{kind}guidance",
            "guidance": options,
            "step": 10,
            "latents": torch.randn(count, 4, 8, 8, generator=generator, dtype=torch.float64),
            "batch": batch(count),
            "perp_neg": "perp-neg" in name,
            "width": WIDTH,
            "spread": 0.3,
        }
    return {"cases": cases, "model": str(model)}


@pytest.fixture(scope="module")
def theirs(
    request_of_all: dict[str, Any], threestudio: Threestudio, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("answers")
    request, answer = folder / "request.pt", folder / "answer.pt"
    torch.save(request_of_all, request)
    script = Path(__file__).parent / "reference.py"
    done = subprocess.run(
        [sys.executable, str(script), str(threestudio.root), str(request), str(answer)],
        cwd=threestudio.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    return torch.load(answer, weights_only=True)


def prompts(answer: dict[str, Any], perp_neg: bool) -> PromptUtils:
    decays = {"sb": (1.0, 0.5, -0.606), "fsb": (1.0, 0.5, 0.967), "fs": (4.0, 0.5, -2.426), "sf": (4.0, 0.5, -2.426)}
    return PromptUtils(
        "a red cube", answer["prompts_vd"], **answer["texts"], front_threshold=45.0, back_threshold=45.0,
        overhead_threshold=60.0, use_perp_neg=perp_neg, perp_neg_decays=decays,
    )  # fmt: skip


class Given:
    """torch or random, with what is drawn given."""

    def __init__(self, module: Any, **functions: Any) -> None:
        self.__dict__ = {**vars(module), **functions}


def ours(case: dict[str, Any], answer: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """The guidance, what it returns and the gradient of its first loss, given what threestudio drew."""
    module: Any = {
        "stable_diffusion_guidance": sds_guidance,
        "stable_diffusion_vsd_guidance": vsd_guidance,
        "stable_diffusion_sdi_guidance": sdi_guidance,
    }[case["module"]]
    name = next(n for n in vars(module) if n.startswith("StableDiffusion") and n.endswith("Guidance"))
    made = getattr(module, name)(case["guidance"])
    for model in (made.model, *([made.lora.model] if hasattr(made, "lora") else [])):
        model.unet.double()
        model.vae.double()
    if hasattr(made, "lora"):
        made.lora.double()
        with torch.no_grad():
            for path, (down, up) in answer["lora"].items():
                layer: Any = made.lora.layers[path.replace(".", "-")]
                layer.down.copy_(down)
                layer.up.copy_(up)
        made.lora.camera.load_state_dict(answer["camera"])
    made.update_step(0, case["step"])
    times, noise, shares = (list(answer[key]) for key in ("times", "noise", "share"))
    first, sigmas = times.pop(0), made.model.schedule.sigmas
    monkeypatch.setattr(distillation.StepEach, "random_level", lambda self: sigmas[first])
    monkeypatch.setattr(distillation.StepEach, "noise", lambda self: noise.pop(0))
    if module is vsd_guidance:
        drawn = {"randint": lambda *_, **__: times.pop(0), "randn": lambda *_, **__: noise.pop(0)}
        monkeypatch.setattr(module, "torch", Given(torch, **drawn))
    if module is sdi_guidance:
        monkeypatch.setattr(module, "torch", Given(torch, randint=lambda *_, **__: first))
    if hasattr(module, "random"):
        monkeypatch.setattr(module, "random", SimpleNamespace(random=lambda: shares.pop(0)))
    latents = case["latents"].clone().requires_grad_()
    told = made(latents.movedim(1, -1), prompts(answer, case["perp_neg"]), **case["batch"], rgb_as_latents=True)
    losses = {name: value for name, value in told.items() if name.startswith("loss_")}
    (gradient,) = torch.autograd.grad(next(iter(losses.values())), latents, retain_graph=True)
    assert not (times or noise), "not all that was drawn was asked for"
    return made, told, gradient


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_and_the_losses_are_theirs(
    name: str, request_of_all: dict[str, Any], theirs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    case, answer = request_of_all["cases"][name], theirs[name]
    made, told, gradient = ours(case, answer, monkeypatch)
    assert float(answer["gradient"].norm()) > 0
    assert float((gradient - answer["gradient"]).norm() / answer["gradient"].norm()) < 1e-5
    losses = {n: value for n, value in told.items() if n.startswith("loss_")}
    assert losses.keys() == answer["losses"].keys()
    for loss, value in losses.items():
        assert value.item() == pytest.approx(answer["losses"][loss].item(), rel=1e-5), loss
    assert (told["min_step"], told["max_step"]) == (answer["min_step"], answer["max_step"])
    if "lora" not in answer:
        return
    parts = {**{f"linear_{i}": getattr(made.lora.camera, f"linear_{i}").weight for i in (1, 2)}}
    parts |= {path: made.lora.layers[path.replace(".", "-")].up for path in answer["lora"]}
    grads = torch.autograd.grad(losses["loss_lora"], list(parts.values()))
    for path, grad in zip(parts, grads, strict=True):
        expected = answer["lora_grads"][path]
        assert float((grad - expected).norm()) <= 1e-5 * float(expected.norm()), path


def test_theirs_are_as_different_from_each_other_as_the_methods_are(theirs: dict[str, Any]):
    """The comparison can fail: another weighting, another t, another noise are another gradient."""
    gradients = {name: answer["gradient"] for name, answer in theirs.items() if name in ("sds", "uniform", "sjc")}
    for name, gradient in gradients.items():
        for other, compared in gradients.items():
            assert name == other or float((gradient - compared).norm() / gradient.norm()) > 0.1
