"""MVDream's published network: its names and shapes, and the reference implementation's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mvdream_reference as reference
import pytest
import tiny_pipeline
import torch
from pullback import models
from pullback.errors import UserError
from pullback.models import published_mvdream
from pullback.models.multi_view import MultiViewUNet2DConditionModel, camera_numbers
from pullback.views import cameras
from safetensors.torch import save_file

TABLE = Path(__file__).with_name("mvdream_sd21_unet.txt")
"""Names and shapes of the published state dict, as the reference implementation makes them from `SD21`."""
SMALL = reference.SD21 | {"model_channels": 32, "channel_mult": [1, 2], "num_res_blocks": 1, "num_head_channels": 16,
    "attention_resolutions": [2, 1], "context_dim": 16}  # fmt: skip


def published() -> dict[str, torch.Tensor]:
    rows = (line.split() for line in TABLE.read_text().splitlines())
    return {name: torch.empty([int(n) for n in shape], device="meta") for name, *shape in rows}


def ours(config: dict[str, Any], state: dict[str, torch.Tensor]) -> MultiViewUNet2DConditionModel:
    arguments = published_mvdream.config_of(config)
    net = MultiViewUNet2DConditionModel(**arguments)
    net.load_state_dict(published_mvdream.convert(state, arguments))
    return net.eval()


def test_every_published_weight_has_its_place_and_its_shape():
    arguments = published_mvdream.config_of(reference.SD21)
    with torch.device("meta"):
        own = MultiViewUNet2DConditionModel(**arguments).state_dict()
    state = published()
    found = published_mvdream.convert(state, arguments)
    assert {name: tensor.shape for name, tensor in found.items()} == {name: t.shape for name, t in own.items()}
    assert len(found) == len(state) == 690
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}
    assert published_mvdream.convert(prefixed, arguments).keys() == found.keys()


def test_the_table_is_that_of_the_reference():
    made = reference.unet(reference.SD21, "meta").state_dict()
    assert {name: t.shape for name, t in made.items()} == {name: t.shape for name, t in published().items()}


@pytest.mark.parametrize("config", [SMALL, SMALL | {"attention_resolutions": [2]}], ids=["both levels", "one level"])
def test_the_answers_are_those_of_the_reference(config: dict[str, Any]):
    net = reference.unet(config)
    torch.manual_seed(0)
    latents, text = torch.randn(8, 4, 8, 8), torch.randn(8, 5, 16)
    camera = camera_numbers(cameras.orbit(torch.full((8,), 15.0), torch.arange(8) * 45.0, 1.0))
    time = torch.full((8,), 417.0)
    with torch.no_grad():
        theirs = net(latents, time, context=text, camera=camera, num_frames=4)
        found = ours(config, net.state_dict())(latents, time, encoder_hidden_states=text, class_labels=camera).sample
    assert float(theirs.abs().mean()) > 0.1
    assert torch.allclose(found, theirs, atol=1e-4), float((found - theirs).abs().max())


@pytest.mark.parametrize("start", [0, 30, 90])
def test_cameras_are_those_of_the_reference(start: int):
    # azimuth 0 of its camera_utils looks from −y with z up, a quarter turn before ours
    theirs = reference.module("camera_utils").get_camera(4, elevation=15, azimuth_start=start)
    azimuth = torch.arange(4) * 90.0 + start - 90
    assert torch.allclose(camera_numbers(cameras.orbit(torch.full((4,), 15.0), azimuth, 2.5)), theirs, atol=1e-6)


def unconverted(small: MultiViewUNet2DConditionModel) -> dict[str, torch.Tensor]:
    """A state dict with published names whose conversion is `small`'s: names found by the conversion of their own."""
    arguments = {name: small.config[name] for name in published_mvdream.config_of(SMALL)}
    rows = {name: torch.full((1,), float(i)) for i, name in enumerate(names_of_small())}
    places = {int(tensor): name for name, tensor in published_mvdream.convert(rows, arguments).items()}
    return {name: small.state_dict()[places[i]].clone() for i, name in enumerate(rows)}


def names_of_small() -> list[str]:
    """The published names of a network as `SMALL`: those of its levels, blocks and attention, from the table."""
    camera = ["time_embed", "camera_embed", "input_blocks.0.", "out."]
    renamed = {"input_blocks.1.": "input_blocks.1.", "input_blocks.3.": "input_blocks.2.",
        "input_blocks.4.": "input_blocks.3.", "middle_block": "middle_block", "output_blocks.6.": "output_blocks.0.",
        "output_blocks.8.": "output_blocks.1.", "output_blocks.9.": "output_blocks.2.",
        "output_blocks.10.": "output_blocks.3."}  # fmt: skip
    names = [name for name in published() if name.startswith(tuple(camera))]
    for old, new in renamed.items():
        names += [new + name.removeprefix(old) for name in published() if name.startswith(old)]
    return names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_pipeline.build(tmp_path)
    torch.manual_seed(0)
    small = MultiViewUNet2DConditionModel(**published_mvdream.config_of(SMALL))
    for file in (tmp_path / "unet").iterdir():
        file.unlink()
    save_file(unconverted(small), tmp_path / "unet" / "diffusion_pytorch_model.safetensors")
    (tmp_path / "unet" / "config.json").write_text(json.dumps({"_class_name": "MultiViewUNetModel"} | SMALL))
    index = json.loads((tmp_path / "model_index.json").read_text())
    index |= {"_class_name": "MVDreamPipeline", "unet": ["mv_unet", "MultiViewUNetModel"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    return tmp_path


def test_a_published_folder_is_loaded(folder: Path):
    model = models.load(folder)
    torch.manual_seed(0)
    small = MultiViewUNet2DConditionModel(**published_mvdream.config_of(SMALL)).eval()
    assert isinstance(model, models.MultiViewModel) and model.group_size == 4
    latents, text, camera = torch.randn(4, 4, 8, 8), torch.randn(4, 5, 16), torch.randn(4, 16)
    with torch.no_grad():
        found, own = (net(latents, 3.0, text, class_labels=camera).sample for net in (model.unet, small))
    assert torch.equal(found, own)
    assert len(model.fingerprint()) == 64


def test_a_published_folder_without_a_weight_or_with_a_picture_is_refused(folder: Path):
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({"_class_name": "MultiViewUNetModel"} | SMALL | {"ip_dim": 16}))
    with pytest.raises(UserError, match=r"takes a picture beside the text, as ImageDream's does; use a model of text"):
        models.load(folder)
    config.write_text(json.dumps({"_class_name": "MultiViewUNetModel"} | SMALL | {"channel_mult": [1, 2, 2]}))
    with pytest.raises(UserError, match=r"unet lacks \d+ weights \(the first is "):
        models.load(folder)
