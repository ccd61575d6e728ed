"""Panoramas through launch.py: the datamodule's crops, the geometries, a small run of the config with all its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checkpoints import same
from PIL import Image
from pullback.adapters.data import panoramas as panorama_data
from pullback.host import launch, parts
from pullback.host.data import cameras
from pullback.host.registry import find
from pullback.views import crops
from tiny_pipeline import build

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GEOMETRIES: dict[str, dict[str, Any]] = {
    "pullback-panorama": {"hidden": 8, "layers": 1, "omega": 6.0, "equirect_height": 12},
    "pullback-panorama-grid": {"resolution": 8, "equirect_height": 12},
}


def module(**options: Any) -> panorama_data.PanoramaDataModule:
    data = panorama_data.PanoramaDataModule({"height": 3, "width": 4, **options})
    data.setup()
    return data


def test_crops_have_all_keys_of_a_random_cameras_batch():
    random = cameras.RandomCameraDataModule({"batch_size": 2, "height": 3, "width": 4})
    random.setup("fit")
    expected, batch = random.train_dataset.draw(0), module(batch_size=2).train_dataset.collate(None)
    assert batch.keys() == expected.keys()
    for key, value in expected.items():
        assert isinstance(value, int) or (batch[key].shape, batch[key].dtype) == (value.shape, value.dtype), key


def test_crops_lie_within_the_configs_ranges_and_say_where_they_look():
    data = module(
        batch_size=6, fovy_range=[50, 70], elevation_range=[10, 80], overlap_range=[0.2, 0.3], height=9, width=9
    )
    for _ in range(5):
        batch = data.train_dataset.collate(None)
        assert bool(((batch["elevation"] >= 9.99) & (batch["elevation"] <= 80.01)).all())
        fovy = torch.rad2deg(batch["fovy"])
        assert bool(((fovy >= 50) & (fovy <= 70)).all())
        share = (batch["azimuth"].diff() % 360) / ((fovy[1:] + fovy[:-1]) / 2)
        assert bool(((share > 0.699) & (share < 0.801)).all()) and share.std() < 1e-3
        seen = crops.look(batch["elevation"], batch["azimuth"], 60.0)["c2w"]
        assert torch.allclose(batch["rays_d"][:, 4, 4], -seen[:, :3, 2], atol=1e-5)
        assert torch.equal(batch["rays_o"], torch.zeros_like(batch["rays_o"]))


def test_the_crops_of_a_step_depend_on_seed_and_step_alone():
    torch.manual_seed(5)
    one, other = module().train_dataset, module().train_dataset
    first = [one.collate(None) for _ in range(3)]
    torch.rand(7)
    other.step = 2
    assert torch.equal(other.collate(None)["c2w"], first[2]["c2w"])
    assert not torch.equal(first[1]["c2w"], first[2]["c2w"])
    torch.manual_seed(6)
    assert not torch.equal(module().train_dataset.collate(None)["c2w"], first[0]["c2w"])


def test_evaluation_turns_round_once():
    data = module(n_test_views=4, eval_height=5, eval_width=7, eval_elevation_deg=20.0)
    views = list(data.test_dataloader())
    assert [view["index"].tolist() for view in views] == [[0], [1], [2], [3]]
    assert views[0]["rays_d"].shape == (1, 5, 7, 3)
    turned = (torch.cat([view["azimuth"] for view in views]) + 1) % 360 - 1
    assert turned.tolist() == pytest.approx([0, 90, 180, 270], abs=1e-3)
    assert all(float(view["elevation"]) == pytest.approx(20, abs=1e-3) for view in views)


@pytest.mark.parametrize(
    "options", [{"batch_size": 0}, {"fovy_range": [90, 60]}, {"elevation_range": [-100, 0]},
                {"overlap_range": [0.5, 1.0]}, {"eval_fovy_deg": 180.0}]
)  # fmt: skip
def test_impossible_values_are_refused_by_their_key(options: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(options))):
        panorama_data.PanoramaDataConfig(**options)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_renderer_shows_what_the_representation_renders(name: str):
    parts.load_parts()
    torch.manual_seed(0)
    geometry = find(name)(GEOMETRIES[name])
    for p in geometry.parameters():
        p.data += 0.1 * torch.randn_like(p)
    background = find("solid-color-background")({"color": [0.1, 0.2, 0.3]})
    renderer = find("pullback-flat-renderer")({}, geometry=geometry, material=None, background=background)
    batch = module(batch_size=2, height=6, width=5).train_dataset.collate(None)
    geometry.image.height, geometry.image.width = 6, 5
    assert torch.allclose(renderer(**batch)["comp_rgb"].movedim(-1, 1) * 2 - 1, geometry.image.render(batch), atol=1e-5)
    with pytest.raises(ValueError, match="equirect_height"):
        find("pullback-panorama").Config(equirect_height=0)


def test_the_tiny_and_the_full_config_differ_in_values_not_in_structure():
    tiny, full = (yaml.safe_load((CONFIGS / f"pullback-panorama{end}.yaml").read_text()) for end in ("-tiny", ""))
    assert tiny.keys() == full.keys() and tiny["system"].keys() == full["system"].keys()
    for block in ("data", "trainer", "checkpoint"):
        assert tiny[block].keys() == full[block].keys(), block
    for part in ("geometry", "guidance", "prompt_processor", "renderer", "material", "optimizer"):
        assert tiny["system"][part].keys() == full["system"][part].keys(), part
    for config in (tiny, full):
        guidance, data = config["system"]["guidance"], config["data"]
        assert guidance["noise"] == "spherical" and guidance["constraint"] == "repaint"
        share = data["batch_size"] * sum(data["fovy_range"]) / 2 * (1 - data["overlap_range"][0])
        assert share == pytest.approx(360, abs=5)  # all round, once


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


def run(model: Path, out: Path, geometry: str, *more: str) -> Path:
    """A run of two levels, two visits each; its folder."""
    config = yaml.safe_load((CONFIGS / "pullback-panorama-tiny.yaml").read_text())
    config["system"] |= {"geometry_type": geometry, "geometry": GEOMETRIES[geometry]}
    out.mkdir(exist_ok=True)
    (out / "panorama.yaml").write_text(yaml.safe_dump(config))
    small = [
        f"system.prompt_processor.pretrained_model_name_or_path={model}", "system.prompt_processor.prompt=a red cube",
        "data.batch_size=2", "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16",
        "data.n_val_views=1", "data.n_test_views=2", "system.guidance.levels=2", "system.guidance.fit_steps=3",
        "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5", "checkpoint.every_n_train_steps=1",
        "trainer.val_check_interval=4",
    ]  # fmt: skip
    where = [f"exp_root_dir={out}", "name=t", "tag=t", "use_timestamp=false"]
    assert launch.main(["--config", str(out / "panorama.yaml"), "--train", *small, *where, *more]) == 0
    return out / "t" / "t"


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_config_ends_in_a_panorama_and_goes_on_where_it_was(geometry: str, model: Path, tmp_path: Path):
    first = run(model, tmp_path / "one", geometry)
    with Image.open(first / "save" / "it4-whole" / "panorama.png") as whole:
        assert whole.size == (24, 12) and "equirectangular" in whole.info["XML:com.adobe.xmp"]
    for name in ("panorama.html", "panorama.mp4", "cubemap.png", "cubemap/up.png"):
        assert (first / "save" / "it4-whole" / name).stat().st_size > 0
    state = torch.load(first / "ckpts" / "last.ckpt", weights_only=True)
    assert (state["global_step"], state["pullback"]["nfe"]) == (4, 2 * 2 * 2 * 2)  # levels, cycles, crops, guided
    if geometry == "pullback-panorama":
        resumed = run(model, tmp_path / "two", geometry, f"resume={first / 'ckpts' / 'epoch=0-step=2.ckpt'}")
        other = torch.load(resumed / "ckpts" / "last.ckpt", weights_only=True)
        for key in ("state_dict", "pullback", "optimizer_states"):
            assert same(state[key], other[key]), key
