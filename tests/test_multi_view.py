"""A UNet with attention across views, and models of that form as denoisers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import tiny_pipeline
import torch
from diffusers import UNet2DConditionModel
from pullback import models
from pullback.denoiser import JointDenoiser
from pullback.errors import UserError
from pullback.models.multi_view import MultiViewUNet2DConditionModel, camera_numbers
from pullback.views import cameras
from torch import Tensor

CONFIG: dict[str, Any] = {
    "sample_size": 8, "layers_per_block": 1, "block_out_channels": (8, 16), "norm_num_groups": 4,
    "cross_attention_dim": 16, "attention_head_dim": 4, "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
CAMERA = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": 16}


def network(group: int = 4, seed: int = 0) -> MultiViewUNet2DConditionModel:
    torch.manual_seed(seed)
    return MultiViewUNet2DConditionModel(group=group, **CONFIG, **CAMERA).double().eval()


def inputs(views: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = (views, 4, 8, 8), (views, 6, 16), (views, 16)
    latents, text, camera = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return latents, text, camera


@torch.no_grad()
def call(net: Any, latents: Tensor, text: Tensor, camera: Tensor | None) -> Tensor:
    time = torch.full((len(latents),), 301.5)
    return net(latents, time, encoder_hidden_states=text, class_labels=camera).sample


def test_one_view_without_camera_is_the_unet_that_it_extends():
    torch.manual_seed(3)
    plain = UNet2DConditionModel(**CONFIG).double().eval()
    net = network(group=1)
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert unexpected == [] and all(name.startswith("class_embedding.") for name in missing)
    torch.nn.init.zeros_(net.class_embedding.linear_2.weight)
    torch.nn.init.zeros_(net.class_embedding.linear_2.bias)
    latents, text, camera = inputs(3)
    assert torch.allclose(call(net, latents, text, camera), call(plain, latents, text, None), atol=1e-12)


def test_views_of_a_group_may_come_in_any_order_with_their_cameras():
    net, group = network(), inputs(4)
    order = torch.tensor([2, 0, 3, 1])
    found = call(net, *(part[order] for part in group))
    assert torch.allclose(found, call(net, *group)[order], atol=1e-12)
    latents, text, camera = group
    fixed = call(net, latents[order], text[order], camera)
    assert not torch.allclose(fixed, call(net, *group)[order], atol=1e-3)


def test_a_view_is_told_of_its_own_group_and_of_no_other():
    net, (latents, text, camera) = network(), inputs(8)
    before = call(net, latents, text, camera)
    latents[1] += 1
    change = (call(net, latents, text, camera) - before).abs().amax((1, 2, 3))
    assert bool((change[:4] > 1e-4).all()) and float(change[4:].max()) < 1e-12


def test_a_saved_network_is_the_same_when_loaded(tmp_path: Path):
    net = network(group=2).float()
    net.save_pretrained(tmp_path)
    again = MultiViewUNet2DConditionModel.from_pretrained(tmp_path)
    group = [part.float() for part in inputs(4)]
    assert again.config.group == 2 and torch.equal(call(again, *group), call(net, *group))


def test_camera_numbers_of_a_camera_placed_by_hand():
    # 2 away, at azimuth 90° and elevation 30°: it stands at (0, √3, 1); its right is −x, its back (0, √3/2, 1/2), and
    # its up back × right = (0, −1/2, √3/2); MVDream scales the position to length 1
    pose = cameras.orbit(torch.tensor([30.0]), torch.tensor([90.0]), 2.0)
    c = math.sqrt(3) / 2
    expected = [-1, 0, 0, 0, 0, -0.5, c, c, 0, c, 0.5, 0.5, 0, 0, 0, 1]
    assert torch.allclose(camera_numbers(pose), torch.tensor([expected]), atol=1e-6)
    assert torch.equal(camera_numbers(pose[:, :3]), camera_numbers(pose))
    assert pose[0, 1, 3] > 1.7  # the pose itself is left as it was


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_pipeline.build_multi_view(tmp_path / "model", views=2)
    return tmp_path / "model"


def views(count: int) -> dict[str, Tensor]:
    """Cameras all round."""
    azimuth = torch.arange(count) * 360.0 / count
    return {"c2w": cameras.orbit(torch.full_like(azimuth, 20.0), azimuth, 2.0)}


def in_pairs() -> dict[str, Tensor]:
    """Two pairs of opposite cameras."""
    return {"c2w": views(4)["c2w"][[0, 2, 1, 3]]}


def test_a_folder_is_a_joint_denoiser_with_guidance(folder: Path):
    model = models.load(folder, dtype=torch.float64)
    text = models.fixed_text(model, "a red cube")
    denoise = models.GuidedDenoiser(model, text, 3.0)
    assert isinstance(denoise, JointDenoiser) and denoise.group_size == 2 and denoise.nfe_per_view == 2
    generator = torch.Generator().manual_seed(0)
    noisy = 3 * torch.randn(4, 4, 8, 8, generator=generator, dtype=torch.float64)
    pairs = in_pairs()
    found = denoise(noisy, 3.0, pairs)
    assert torch.equal(denoise(noisy, 3.0, pairs["c2w"]), found)
    assert denoise.nfe == 16  # two calls of four views, each with guidance and without

    camera = camera_numbers(pairs["c2w"]).double()
    bar = 1 / (1 + 3.0**2)
    time = torch.full((4,), model.schedule.t_of_sigma(3.0))

    def x0(prompt: Tensor) -> Tensor:
        with torch.no_grad():
            eps = model.unet(
                bar**0.5 * noisy, time, encoder_hidden_states=prompt.expand(4, -1, -1), class_labels=camera
            )
        return noisy - 3.0 * eps.sample

    cond, uncond = (x0(part) for part in text(None))
    assert torch.allclose(found, uncond + 3.0 * (cond - uncond), atol=1e-10)


@pytest.mark.parametrize("chunk, calls", [(1, 2), (3, 2), (4, 1), (None, 1)])
def test_a_call_takes_whole_groups(folder: Path, chunk: int | None, calls: int, monkeypatch: pytest.MonkeyPatch):
    model = models.load(folder)
    denoise = models.GuidedDenoiser(model, models.fixed_text(model, "a cube"), 1.0, chunk=chunk)
    sizes, predict = [], model.predict_x0
    monkeypatch.setattr(model, "predict_x0", lambda noisy, *rest: sizes.append(len(noisy)) or predict(noisy, *rest))
    noisy = torch.randn(4, 4, 8, 8)
    found = denoise(noisy, 2.0, in_pairs())
    assert sizes == [4 // calls] * calls
    together = models.GuidedDenoiser(model, models.fixed_text(model, "a cube"), 1.0)(noisy, 2.0, in_pairs())
    assert torch.allclose(found, together, atol=1e-4)


def test_views_that_are_no_groups_are_refused(folder: Path):
    model = models.load(folder)
    denoise = models.GuidedDenoiser(model, models.fixed_text(model, "a cube"), 1.0)
    with pytest.raises(UserError, match=r"^a model of several views needs their cameras; hand in poses \[V,4,4\]"):
        denoise(torch.randn(2, 4, 8, 8), 2.0, [0, 1])
    with pytest.raises(UserError, match=r"^the model sees 2 views at a time; use a multiple of it, not 3$"):
        denoise(torch.randn(3, 4, 8, 8), 2.0, views(3))
    with pytest.raises(UserError, match=r"^the cameras are no groups of 2 at one elevation, 180° apart; take `data_ty"):
        denoise(torch.randn(4, 4, 8, 8), 2.0, views(4))
    two = cameras.orbit(torch.tensor([0.0, 60.0]), torch.tensor([0.0, 180.0]), 2.0)
    with pytest.raises(UserError, match=r"^the cameras are no groups of 2 at one elevation"):
        denoise(torch.randn(2, 4, 8, 8), 2.0, two)
