"""The low-rank adapter against a UNet whose weights hold the changes, and the frozen model's indifference to it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.embeddings import TimestepEmbedding
from pullback import models
from pullback.baselines import vsd
from pullback.errors import UserError
from pullback.models.lora import LoRA, TunedDenoiser
from tiny_pipeline import build

V = 3
CAMERA = torch.randn(V, 4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
SIGMAS = torch.tensor([0.3, 1.7, 6.0], dtype=torch.float64)


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> models.DiffusionModel:
    return double(build(tmp_path_factory.mktemp("model") / "sd", prediction_type=request.param))


def double(folder: Path) -> models.DiffusionModel:
    loaded = models.load(folder)
    assert isinstance(loaded, models.DiffusionModel)
    loaded.unet.double()
    loaded.vae.double()
    return loaded


def adapted(model: models.DiffusionModel, seed: int = 0) -> LoRA:
    """One whose every part has an effect."""
    torch.manual_seed(seed)
    lora = LoRA(model).double()
    with torch.no_grad():
        for layer in layers(lora).values():
            layer.up.normal_(0, 0.3)
    return lora


def layers(lora: LoRA) -> dict[str, Any]:
    return dict(lora.layers.items())


def given(model: models.DiffusionModel) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(V, 4, 8, 8, generator=generator, dtype=torch.float64) * 3
    return noisy, model.encode_prompt(["a red cube", "a blue ball", ""])


def merged(model: models.DiffusionModel, lora: LoRA) -> models.DiffusionModel:
    """The model with the changes in its weights, and with diffusers' own embedding of the camera as a class."""
    other = copy.copy(model)
    unet = other.unet = copy.deepcopy(model.unet)
    for key, layer in layers(lora).items():
        linear: Any = unet.get_submodule(key.replace("-", "."))
        with torch.no_grad():
            linear.weight += layer.up @ layer.down
    embedding = TimestepEmbedding(16, unet.time_embedding.linear_2.out_features).double()
    embedding.load_state_dict(lora.camera.state_dict())
    unet.class_embedding = embedding
    forward = unet.forward
    unet.forward = lambda *args, **kwargs: forward(*args, class_labels=CAMERA.flatten(1), **kwargs)
    return other


def test_it_is_the_model_with_other_weights(model: models.DiffusionModel):
    lora, (noisy, text) = adapted(model), given(model)
    assert len(lora.layers) == 4 * sum(hasattr(m, "to_q") for m in model.unet.modules()) > 8
    with torch.no_grad():
        found = lora(noisy, SIGMAS, text, CAMERA)
    expected = merged(model, lora).predict_x0(noisy, SIGMAS, text)
    assert torch.allclose(found, expected, atol=1e-10)
    assert (found - model.predict_x0(noisy, SIGMAS, text)).abs().max() > 1e-3


def test_the_frozen_model_answers_the_same_to_the_bit(model: models.DiffusionModel):
    noisy, text = given(model)
    before = model.predict_x0(noisy, SIGMAS, text)
    hooks = [len(m._forward_hooks) for m in model.unet.modules()]
    lora = adapted(model)
    lora(noisy, SIGMAS, text, CAMERA).sum().backward()
    with pytest.raises(RuntimeError):
        lora(noisy, SIGMAS, text[:1, :, :3], CAMERA)
    assert torch.equal(model.predict_x0(noisy, SIGMAS, text), before)
    assert [len(m._forward_hooks) for m in model.unet.modules()] == hooks
    assert all(p.grad is None and not p.requires_grad for p in model.unet.parameters())


def test_it_owns_its_additions_alone(model: models.DiffusionModel):
    lora = LoRA(model, rank=2)
    linears = [model.unet.get_submodule(key.replace("-", ".")) for key in lora.layers]
    width = model.unet.time_embedding.linear_2.out_features
    expected = sum(2 * (n.in_features + n.out_features) for n in linears) + 17 * width + (width + 1) * width
    assert sum(v.numel() for v in lora.state_dict().values()) == expected
    assert {id(p) for p in lora.parameters()}.isdisjoint({id(p) for p in model.unet.parameters()})
    assert all(p.dtype == torch.float32 for p in lora.parameters())
    for layer in layers(lora).values():
        assert not layer.up.any() and 0.2 < float(layer.down.detach().std()) < 0.8  # 1/2, of at least 16 numbers


def test_a_fresh_one_whose_camera_says_nothing_is_the_model(model: models.DiffusionModel):
    lora, (noisy, text) = LoRA(model), given(model)
    torch.nn.init.zeros_(lora.camera.linear_2.weight)
    torch.nn.init.zeros_(lora.camera.linear_2.bias)
    with torch.no_grad():
        assert torch.equal(lora(noisy, SIGMAS, text, CAMERA), model.predict_x0(noisy, SIGMAS, text))


def test_all_its_parameters_have_the_gradients_that_differences_say(model: models.DiffusionModel):
    lora, (noisy, text) = adapted(model), given(model)
    weights = torch.randn(noisy.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def value() -> torch.Tensor:
        return (weights * lora(noisy, SIGMAS, text, CAMERA)).sum()

    value().backward()
    for name, p in lora.named_parameters():
        assert p.grad is not None and p.grad.any(), name
    direction = {n: torch.randn_like(p) for n, p in lora.named_parameters()}
    slope = sum(float((p.grad * direction[n]).sum()) for n, p in lora.named_parameters() if p.grad is not None)
    ends = []
    for step in (1e-5, -2e-5):
        with torch.no_grad():
            for n, p in lora.named_parameters():
                p += step * direction[n]
            ends.append(float(value()))
    assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-5)


def test_levels_of_their_own_are_those_levels_one_by_one(model: models.DiffusionModel):
    (noisy, text), lora = given(model), adapted(model)
    for predict in (model.predict_x0, lambda n, s, t: lora(n, s, t, CAMERA[:1].expand(len(n), -1, -1))):
        whole = predict(noisy, SIGMAS, text)
        single = [predict(noisy[i : i + 1], s, text[i : i + 1]) for i, s in enumerate(SIGMAS.tolist())]
        assert torch.allclose(whole, torch.cat(single), atol=1e-6)  # single precision: the time's embedding
    guided = models.GuidedDenoiser(model, lambda views: (text, text.roll(1, 0)), 4.0, chunk=2)
    single = [
        models.GuidedDenoiser(model, lambda views, i=i: (text[i : i + 1], text.roll(1, 0)[i : i + 1]), 4.0)(
            noisy[i : i + 1], s, None
        )
        for i, s in enumerate(SIGMAS.tolist())
    ]
    assert torch.allclose(guided(noisy, SIGMAS, None), torch.cat(single), atol=1e-5)


def test_the_loss_is_the_error_of_what_the_network_predicts(model: models.DiffusionModel):
    lora, (clean, text) = adapted(model), given(model)
    times, noise = torch.tensor([5, 400, 990]), torch.randn_like(clean)
    sigma = model.schedule.sigmas[times].view(-1, 1, 1, 1)
    alpha = 1 / (1 + sigma**2)
    z = alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
    with torch.no_grad():
        answer = merged(model, lora).unet(z, times, encoder_hidden_states=text).sample
        target = noise if model.prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        found = lora.loss(clean, text, CAMERA, times, noise)
    assert float(found) == pytest.approx(float((answer - target).square().mean()), rel=1e-6)


def test_low_precision_weights_have_an_adapter_in_single(tmp_path: Path):
    model = models.load(build(tmp_path / "sd"), dtype=torch.bfloat16)
    lora = LoRA(model)
    noisy = torch.randn(1, 4, 8, 8)
    loss = lora.loss(noisy, model.encode_prompt(["a red cube"]), torch.eye(4)[None], torch.tensor([300]), noisy)
    loss.backward()
    grads = [p.grad for p in lora.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and bool(g.isfinite().all()) for g in grads)
    assert loss.dtype == torch.float32


def test_as_the_second_model_it_learns_the_present_pictures():
    """Of one picture the best answer at any noise is that picture; the shipped model, which never saw it, learns so."""
    model = models.load("custom/threestudio-pullback/assets/tiny-sd")
    torch.manual_seed(0)
    lora, text, camera = LoRA(model), model.encode_prompt(["a red cube"]), torch.eye(4)[None]
    phi = TunedDenoiser(lora, lambda views: text, lambda views: camera, lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    clean = model.encode(torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1)

    def error() -> float:
        noisy = clean + 4.0 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(9))
        return float((phi(noisy, 4.0, None) - clean).square().mean().sqrt())

    before = error()
    for _ in range(20):
        assert phi.learn(clean, None, generator) == 1
    assert error() < 0.8 * before

    class Latents(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = torch.nn.Parameter(clean.clone())

        def render(self, views: Any) -> torch.Tensor:
            return self.x.expand(2, -1, -1, -1)

    denoise = models.GuidedDenoiser(model, lambda views: (text, text), 7.5)
    denoise.encode = lambda images: images  # type: ignore[method-assign]
    result = vsd.sample(Latents(), None, denoise, torch.tensor([5.0, 1.0, 0.0]), steps=3, phi=phi, generator=generator)
    assert result.nfe == 3 * 2 * (2 + 1 + 1)  # guided, the second model asked, the second model trained


def test_bad_arguments_are_refused(model: models.DiffusionModel):
    with pytest.raises(UserError, match="rank"):
        LoRA(model, rank=0)
    bare = copy.copy(model)
    bare.unet = torch.nn.Linear(2, 2)
    with pytest.raises(UserError, match="no attention"):
        LoRA(bare)
