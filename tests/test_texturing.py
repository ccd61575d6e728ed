"""`pullback texture`: the rasteriser against rays, what no view has seen, and a whole run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gltf_file import Glb

pytest.importorskip("warp")
from pullback.cli import main
from pullback.diffreps import MeshTexture
from pullback.meshes.reading import Surface, read
from pullback.output.mesh_files import MeshData, save
from pullback.texturing.seen import SeenTexture
from pullback.views.cameras import camera_batch, orbit


def box(folder: Path) -> Path:
    import trimesh

    made = trimesh.creation.box((1, 1, 1))
    save(str(folder / "box.glb"), MeshData(np.asarray(made.vertices), np.asarray(made.faces)))
    return folder / "box.glb"


def grey(dirs: torch.Tensor) -> torch.Tensor:
    return torch.full_like(dirs, 0.5)


def seen(surface: Surface, size: int = 32, texels: int = 48) -> SeenTexture:
    return SeenTexture(surface.in_world(0.7), surface, texels, size, size, grey, samples=2)


def cameras(size: int = 32) -> dict[str, torch.Tensor]:
    poses = orbit(torch.tensor([20.0, 50.0]), torch.tensor([15.0, 200.0]), 2.4)
    return camera_batch(poses, torch.full((2,), 0.7), size, size)


def test_the_rasteriser_sees_what_rays_see(tmp_path):
    surface = read(box(tmp_path), 48)
    ours, views = seen(surface), cameras()
    vertices, faces = torch.from_numpy(surface.in_world(0.7)), torch.from_numpy(surface.faces)
    coordinates = torch.from_numpy(surface.coordinates[surface.corners])
    rays = MeshTexture(vertices, faces, coordinates, 48, 32, 32, background=0.0, samples=2)
    torch.manual_seed(0)
    with torch.no_grad():
        ours.texture.normal_()
        rays.texture.copy_(ours.texture)
    away = (ours.render(views) - rays.render(views)).abs().amax(1)
    assert float(rays.matrix(views).to_dense().sum()) > 400
    assert float((away > 1e-3).float().mean()) < 0.01  # a point on an edge may fall to either side


def test_the_geometry_shows_what_the_representation_renders(tmp_path):
    """`pullback-texture` in the flat renderer against the same texture from the same cameras."""
    from pullback.adapters.flat.renderer import FlatRenderer
    from pullback.adapters.flat.texture import TextureGeometry

    geometry = TextureGeometry({"mesh": str(box(tmp_path)), "resolution": 48, "background": 0.0})
    torch.manual_seed(0)
    with torch.no_grad():
        geometry.image.texture.normal_()
    renderer = FlatRenderer({}, geometry=geometry, material=None, background=grey)
    views, image = cameras(), geometry.image
    image.height = image.width = 32
    image.background = 0.0
    shown = renderer(**views)["comp_rgb"].movedim(-1, 1) * 2 - 1
    assert torch.allclose(shown, image.render(views), atol=1e-5) and float(shown.detach().std()) > 0.1
    assert [name for name, _ in geometry.named_parameters()] == ["image.texture"]


def test_what_no_view_has_seen_takes_the_nearest_colour(tmp_path):
    surface = read(box(tmp_path), 48)
    texture = seen(surface)
    with torch.no_grad():
        texture.texture.fill_(-1.0)
        index, weight, _ = texture.footprints(cameras())
        texture.texture.flatten(1)[:, index[weight > 0]] = 1.0
    whole, share = texture.whole(surface.in_world(0.7), surface)
    assert whole.shape == (48, 48, 3) and 0.3 < share < 0.95
    assert float(whole.mean()) > 0.97  # a few texels are seen for less than a fiftieth of a pixel


def test_a_run_writes_a_mesh_for_each_seed_and_a_page(tmp_path, capsys):
    """The shipped model at a few calls; the glb has the file's own shape, and the page is one file."""
    out = tmp_path / "out"
    options = ["system.guidance.levels=2", "system.guidance.cycles=1", "data.batch_size=4"]
    assert (
        main(["texture", str(box(tmp_path)), "--prompt", "a red cube", "--seeds", "0-1", "--out", str(out), *options])
        == 0
    )
    said = capsys.readouterr().out
    assert "2 textures of 128 × 128 texels, 16 calls of the model each; memory:" in said and "new texture coord" in said
    files = sorted(out.glob("*.glb"))
    assert [file.stem[:10] + file.stem[-2:] for file in files] == ["a-red-cube-0", "a-red-cube-1"]
    first, second = (Glb(file) for file in files)
    assert first.tree["asset"]["extras"]["seed"] == 0 and len(first.tree["images"]) == 1
    assert first.tree["accessors"][0]["max"] == pytest.approx([0.5, 0.5, 0.5]) and first.data != second.data
    page = (out / "index.html").read_text()
    assert "a red cube" in page and page.count("data:image/webp") == 2 and "http" not in page.replace("http-equiv", "")
    assert all(f'href="{file.name}"' in page for file in files)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.obj"], "there is no file missing.obj"),
        (["BOX", "--texels", "4"], "--texels must lie between 8 and 8192"),
        (["BOX", "--config", "pullback-image-tiny.yaml"], "a texture is sampled by pullback-guidance"),
        (["BOX", "system.guidance.levels=0"], "`system.guidance.levels` must be at least 1"),
    ],
)
def test_what_cannot_be_is_said_before_the_model_loads(words, sentence, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pullback.models.load_configured", None)
    words = [str(box(tmp_path)) if word == "BOX" else word for word in words]
    assert main(["texture", *words, "--prompt", "a red cube", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert sentence in error and len(error.strip().splitlines()) == 1
