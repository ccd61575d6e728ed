"""Representations without a volume: rays, renderer, geometries and the configs of images, in the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from pullback import diffreps
from pullback.adapters.data import images as image_data
from pullback.adapters.flat import names as image
from pullback.adapters.flat import renderer as flat
from pullback.errors import UserError
from pullback.host import launch, parts
from pullback.host.data import cameras
from pullback.host.registry import find
from tiny_pipeline import build

TINY = Path(__file__).resolve().parents[1] / "configs" / "pullback-image-tiny.yaml"
GEOMETRIES: dict[str, dict[str, Any]] = {
    "pullback-siren-image": {"hidden": 8, "layers": 1, "omega": 10.0},
    "pullback-fourier-image": {"features": 8, "hidden": 8, "layers": 1},
    "pullback-pixels": {"height": 16, "width": 16},
}


def renderer(geometry: Any, **options: Any) -> Any:
    parts.load_parts()
    background = find("solid-color-background")({"color": [0.1, 0.2, 0.3]})
    return find("pullback-flat-renderer")(options, geometry=geometry, material=None, background=background)


def test_the_view_has_all_keys_of_a_random_cameras_batch():
    data = cameras.RandomCameraDataModule({"batch_size": 2, "height": 3, "width": 4})
    data.setup("fit")
    random = data.train_dataset.draw(0)
    view = image_data.flat_view(3, 4, 2)
    assert view.keys() == random.keys()
    for key, value in random.items():
        assert isinstance(value, int) or (view[key].shape, view[key].dtype) == (value.shape, value.dtype), key


def test_the_camera_sees_the_square_as_the_rays_do():
    view = image_data.flat_view(4, 6)
    axes = view["c2w"][0, :3, :3]
    assert torch.allclose(axes @ axes.T, torch.eye(3)) and torch.linalg.det(axes) == 1
    # the first pixel is on top at the left, and y grows downwards
    assert torch.allclose(view["rays_o"][0, 0, 0], torch.tensor([-5 / 6, -3 / 4, -1]))
    assert torch.allclose(view["rays_o"][..., :2], diffreps.pixel_centres(4, 6)[None])
    # OpenGL: the camera looks along its −z
    assert torch.equal(view["rays_d"][0, 1, 2], -axes[:, 2])
    plane = view["rays_o"] + view["rays_d"]
    clip = torch.cat([plane, torch.ones(1, 4, 6, 1)], -1) @ view["mvp_mtx"][0].T
    assert torch.allclose(clip[..., :2], plane[..., :2]) and torch.allclose(clip[..., 2:], torch.tensor([0.0, 1.0]))


def test_the_datamodule_gives_one_view_to_train_and_its_pictures_with_an_index():
    parts.load_parts()
    data = find("pullback-image-datamodule")({"height": 4, "width": 6, "eval_height": 8, "eval_width": 10})
    data.setup()
    first, second = (batch for _, batch in zip(range(2), data.train_dataloader(), strict=False))
    assert first["rays_o"].shape == (1, 4, 6, 3)
    assert all(torch.equal(first[k], second[k]) for k in first if isinstance(first[k], torch.Tensor))
    (shown,) = data.test_dataloader()
    assert shown["rays_d"].shape == (1, 8, 10, 3) and shown["index"].tolist() == [0]
    with pytest.raises(ValueError, match="eval_width"):
        image_data.ImageDataConfig(eval_width=0)


def test_the_renderer_shows_the_representation_at_any_size_and_in_pieces():
    torch.manual_seed(0)
    rep = diffreps.SirenImage(3, 6, 4, hidden=8, layers=2)
    geometry = find("pullback-siren-image")({"hidden": 8, "layers": 2})
    geometry.network.load_state_dict(rep.network.state_dict())
    with torch.no_grad():
        for height, width in ((6, 4), (9, 11)):
            view = image_data.flat_view(height, width, 2)
            whole, pieces = renderer(geometry)(**view), renderer(geometry, eval_chunk_size=7)(**view)
            assert torch.allclose(whole["comp_rgb"][1] * 2 - 1, rep.image(height, width).movedim(0, -1), atol=1e-6)
            assert torch.allclose(pieces["comp_rgb"], whole["comp_rgb"], atol=1e-6)
    assert whole["comp_rgb_bg"][0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3])
    for key in ("opacity", "depth", "z_variance"):
        assert whole[key].shape == (2, 9, 11, 1)
    assert bool((whole["opacity"] == 1).all())


def test_pixels_show_themselves_and_are_linear_between():
    geometry = image.Pixels({"height": 3, "width": 4})
    x, y = diffreps.pixel_centres(3, 4).unbind(-1)
    geometry.values.data = torch.stack([x, y, 2 * x - y])
    own = renderer(geometry)(**image_data.flat_view(3, 4))["comp_rgb"][0] * 2 - 1
    assert torch.allclose(own.movedim(-1, 0), geometry.values, atol=1e-6)
    place = torch.tensor([[[[0.1, -0.2, -1.0]]]])
    between = geometry(place, place)
    assert torch.allclose(between, torch.tensor([0.1, -0.2, 0.4]), atol=1e-6)


def test_config_and_checkpoint_follow_the_representation(monkeypatch: pytest.MonkeyPatch):
    from pullback.adapters.flat.geometry import register_flat
    from pullback.host import registry

    class Waves(diffreps.CoordinateImage):
        """Of all it has, one tensor each is a parameter and a buffer of its own."""

        def __init__(self, channels: int, height: int, width: int, count: int, pitch: float = 2.0):
            super().__init__(channels, height, width)
            self.register_buffer("pitches", pitch * torch.ones(count))
            self.heights = torch.nn.Parameter(torch.ones(count, channels))

        def render_at(self, coordinates: torch.Tensor) -> torch.Tensor:
            return (coordinates[..., :1] * self.pitches).sin() @ self.heights

    parts.load_parts()
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    register_flat("my-waves", Waves, pitch=3.0)
    with pytest.raises(UserError, match="count"):
        find("my-waves")({"count": "many"})
    geometry = find("my-waves")({"count": 4}).double()
    assert geometry.cfg.pitch == 3.0 and geometry.state_dict().keys() == {"heights", "pitches"}
    place = torch.rand(2, 5, 3, dtype=torch.float64)
    expected = 4 * (3 * place[..., :1]).sin().expand(2, 5, 3)
    assert torch.allclose(geometry(place, place), expected)
    assert all(key.startswith("network.") for key in find("pullback-fourier-image")({}).state_dict())


def test_a_volume_is_refused_by_name():
    parts.load_parts()
    with pytest.raises(UserError, match="pullback-siren-image"):
        renderer(find("volume-grid")({"grid_size": [4, 4, 4]}))
    with pytest.raises(ValueError, match="eval_chunk_size"):
        flat.FlatRenderer.Config(eval_chunk_size=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_config_ends_in_a_picture_of_the_evaluations_size(geometry: str, model: Path, tmp_path: Path):
    config = yaml.safe_load(TINY.read_text())
    config["system"] |= {"geometry_type": geometry, "geometry": GEOMETRIES[geometry]}
    file = tmp_path / "image.yaml"
    file.write_text(yaml.safe_dump(config))
    small = [
        f"system.prompt_processor.pretrained_model_name_or_path={model}", "system.prompt_processor.prompt=a red cube",
        "data.width=16", "data.height=16", "data.eval_width=48", "data.eval_height=32", "system.guidance.levels=2",
        "system.guidance.fit_steps=3", "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5",
    ]  # fmt: skip
    where = [f"exp_root_dir={tmp_path}", "name=t", "tag=t", "use_timestamp=false"]
    assert launch.main(["--config", str(file), "--train", *small, *where]) == 0
    saved = tmp_path / "t" / "t" / "save"
    with Image.open(saved / "it2-test" / "0.png") as picture:
        assert picture.size == (48, 32)
    state = torch.load(tmp_path / "t" / "t" / "ckpts" / "last.ckpt", weights_only=True)
    # guided, one view, two levels; without constraint every level is visited once
    assert (state["global_step"], state["pullback"]["nfe"]) == (2, 4)
    assert any(name.startswith("geometry.") for name in state["state_dict"])


def test_the_two_configs_differ_in_values_not_in_structure():
    def keys(node: Any) -> Any:
        return {k: keys(v) for k, v in node.items()} if isinstance(node, dict) else None

    full = yaml.safe_load(TINY.with_name("pullback-image.yaml").read_text())
    assert keys(full) == keys(yaml.safe_load(TINY.read_text()))


def test_the_rounds_are_checked_and_reach_the_denoiser(model: Path, tmp_path: Path, capsys):
    parts.load_parts()
    guidance = find("pullback-image-guidance")
    with pytest.raises(ValueError, match="decode_rounds"):
        guidance.Config(decode_rounds=-1)
    block = {"pretrained_model_name_or_path": str(model), "half_precision_weights": False, "decode_rounds": 5}

    class Told:
        use_perp_neg = False

    assert guidance(block).denoiser(Told()).denoise.rounds == 5
