"""tinycudann's stand-in against the host and closed forms, empty packages, the launcher's sentences."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback.cuda_standins import launch
from pullback.errors import UserError
from pullback.host.scene.encoders import HashGrid
from pullback.resources import CONFIGS

MODULES = Path(launch.__file__).parent / "modules"
REPOSITORY = Path(__file__).parents[1]


def _standin(file: str) -> Any:
    name = file.replace("/", "_").removesuffix(".py")
    spec = importlib.util.spec_from_file_location(f"standin_{name}", MODULES / "always" / file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tcnn = _standin("tinycudann.py")
GRID = {
    "otype": "HashGrid", "n_levels": 3, "n_features_per_level": 2, "log2_hashmap_size": 6, "base_resolution": 3,
    "per_level_scale": 1.7,
}  # fmt: skip


# ---- tinycudann


def test_the_hash_grid_is_the_hosts() -> None:
    encoding = tcnn.Encoding(3, {**GRID, "otype": "Grid", "type": "Hash", "start_level": 8}, dtype=torch.float32)
    host = HashGrid(3, **{k: v for k, v in GRID.items() if k != "otype"})
    assert encoding.n_output_dims == 6 and encoding.n_input_dims == 3
    host.load_state_dict(encoding.state_dict())
    x = torch.rand(50, 3)
    assert torch.equal(encoding(x), host(x))


@pytest.mark.parametrize(("otype", "width"), [("Frequency", 2 * 3 * 12), ("SphericalHarmonics", 16), ("Identity", 3)])
def test_fixed_encodings_have_their_width(otype: str, width: int) -> None:
    encoding = tcnn.Encoding(3, {"otype": otype})
    assert encoding.n_output_dims == width and encoding(torch.rand(5, 3)).shape == (5, width)


def test_harmonics_are_tiny_cuda_nns_up_to_degree_three() -> None:
    d = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=-1)
    x, y, z = d.unbind(-1)
    a, b, c = math.sqrt(3 / (4 * math.pi)), math.sqrt(15 / (4 * math.pi)), math.sqrt(5 / (16 * math.pi))
    expected = [
        torch.full_like(x, math.sqrt(1 / (4 * math.pi))), -a * y, a * z, -a * x,
        b * x * y, -b * y * z, c * (3 * z**2 - 1), -b * x * z, b / 2 * (x**2 - y**2),
    ]  # fmt: skip
    encoding = tcnn.Encoding(3, {"otype": "SphericalHarmonics", "degree": 3}, dtype=torch.float64)
    assert torch.allclose(encoding((d + 1) / 2), torch.stack(expected, -1), atol=1e-12)


def test_parameters_follow_their_seed_and_travel_in_a_state_dict() -> None:
    def build(seed: int) -> Any:
        return tcnn.NetworkWithInputEncoding(3, 4, GRID, {"otype": "FullyFusedMLP", "n_neurons": 8}, seed)

    torch.manual_seed(0)
    one, torch_state = build(1), torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), torch_state)  # drawn from a generator of its own
    x = torch.rand(7, 3)
    assert torch.equal(one(x), build(1)(x))
    other = build(2)
    assert not torch.equal(other(x), one(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(other(x), one(x)) and one(x).shape == (7, 4)


def test_encoding_and_network_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    config = {"otype": "CutlassMLP", "n_neurons": 4, "activation": "Softplus"}
    field = tcnn.NetworkWithInputEncoding(2, 1, GRID, config).double()
    for p in field.parameters():
        torch.nn.init.normal_(p)
    x = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(field, x) and torch.autograd.gradgradcheck(field, x)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"otype": "OneBlob"}, ["`otype`", "'OneBlob'", "HashGrid", "Frequency"]),
        ({**GRID, "otype": "Grid", "type": "Dense"}, ["`type`", "'Dense'", "'Hash'"]),
        ({**GRID, "interpolation": "Smoothstep"}, ["`interpolation`", "'Smoothstep'", "'Linear'"]),
    ],
)
def test_what_the_stand_in_has_not_is_said(config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as e:
        tcnn.Encoding(3, config)
    assert all(word in str(e.value) for word in words)


# ---- nvdiffrast and envlight


def test_nvdiffrasts_functions_are_called_as_threestudio_calls_them() -> None:
    """A square seen by one camera of two, painted by a texture, and smooth at its border."""
    dr = _standin("nvdiffrast/torch.py")
    for context in (dr.RasterizeGLContext(device="cpu"), dr.RasterizeCudaContext(device=torch.device("cpu"))):
        square = torch.tensor([[-0.55, -0.5, 0, 1], [0.55, -0.5, 0, 1], [0.55, 0.5, 0, 1], [-0.55, 0.5, 0, 1]])
        pos = torch.stack([square, square + torch.tensor([9.0, 0, 0, 0])]).requires_grad_()
        tri = torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32)
        rast, rast_db = dr.rasterize(context, pos, tri, (16, 16), grad_db=True)
        assert int((rast[0, ..., 3] > 0).sum()) == 64 and float(rast[1].detach().abs().sum()) == 0
        uv, uv_da = dr.interpolate(square[None, :, :2] + 0.5, rast, tri, rast_db=rast_db, diff_attrs="all")
        colour = dr.texture(torch.ones(1, 4, 4, 3), uv, uv_da, filter_mode="linear-mipmap-linear")
        topology = dr.antialias_construct_topology_hash(tri)
        smooth = dr.antialias(colour * (rast[..., 3:] > 0), rast, pos, tri, topology_hash=topology)
        smooth.sum().backward()
        assert pos.grad is not None and float(pos.grad[0, :, 0].abs().min()) > 1 and float(pos.grad[1].abs().max()) == 0
        assert float(smooth[0].detach().sum()) == pytest.approx(
            3 * 8 * 8.8, rel=0.02
        )  # its upper and lower sides lie on pixels
    ranged, _ = dr.rasterize(context, square, tri, (16, 16), ranges=torch.tensor([[0, 2], [1, 1]], dtype=torch.int32))
    assert torch.equal(ranged[0], rast[0]) and int((ranged[1, ..., 3] > 0).sum()) < 64
    with pytest.raises(UserError, match="the nearest surface alone"):
        dr.DepthPeeler(context, pos, tri, (16, 16))


def test_light_of_an_environment_is_filtered_as_its_integrals_say() -> None:
    """L = 1 + y: weighted by the cosine 1 + 2y/3; a sharp lobe leaves it, a rough one comes nearer to the mean."""
    envlight = _standin("envlight.py")
    light = envlight.EnvLight(max_res=64, device="cpu")
    d = torch.nn.functional.normalize(envlight.directions(64), dim=-1)
    light.base.data = (1 + d[..., 1:2]).expand(6, 64, 64, 3).contiguous()
    light.build_mips()
    at = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert torch.allclose(light(at)[:, 0], 1 + 2 / 3 * at[:, 1], atol=0.02)
    rough = [light(at, torch.full((500, 1), r))[:, 0] for r in (0.0, 0.3, 1.0)]
    slopes = [float(((x - 1) * at[:, 1]).sum() / at[:, 1].square().sum()) for x in rough]
    assert abs(slopes[0] - 1) < 0.03 and slopes[0] > slopes[1] > slopes[2] > 0.5
    assert all(float((x - 1 - s * at[:, 1]).abs().max()) < 0.05 for x, s in zip(rough, slopes, strict=True))
    assert abs(float(envlight.solid_angles(7).sum()) - 4 * math.pi / 6) < 1e-6
    assert light.get_mip(torch.tensor([0.0, 0.08, 0.5, 0.75, 1.0])).tolist() == pytest.approx([0, 0, 1, 1.5, 2])


# ---- absent packages


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(MODULES.parents[2]), str(MODULES / "absent")])
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **env},
    )


def test_absent_packages_can_be_imported_and_say_so_when_used() -> None:
    done = python("""
from controlnet_aux import CannyDetector
from torchvision import models
from torchvision.transforms import InterpolationMode, functional
import torchvision.models.vgg
from pullback.errors import UserError
assert InterpolationMode.BICUBIC.value == "bicubic" and not hasattr(models, "__wrapped__")
for use in (CannyDetector, lambda: models.vgg16, lambda: functional.resize(1)):
    try:
        use()
    except UserError as e:
        print(e)
""")
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert "pip install controlnet_aux" in lines[0]
    assert "torchvision.models" in lines[1] and "pip install torchvision" in lines[2]


# ---- the launcher


def checkout(root: Path, linked: bool = True) -> Path:
    """As much of a checkout of threestudio as the launcher looks at."""
    for name in ("launch.py", "threestudio/__init__.py", "custom/here"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    if linked:
        (root / "custom" / "threestudio-pullback").symlink_to(launch.EXTENSION)
    return root


def refused(capsys: Any, *args: str) -> str:
    assert launch.main(list(args)) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and len(err.splitlines()) == 1, err
    return err


def test_a_folder_that_is_no_threestudio_is_refused(tmp_path: Path, capsys: Any) -> None:
    err = refused(capsys, "--threestudio", str(tmp_path), "--config", "x.yaml", "--train")
    assert str(tmp_path) in err and "launch.py" in err


@pytest.mark.parametrize("copy", [False, True])
def test_an_extension_that_is_not_linked_is_missed(copy: bool, tmp_path: Path, capsys: Any) -> None:
    root = checkout(tmp_path, linked=False)
    if copy:
        (root / "custom" / "threestudio-pullback").mkdir()
    err = refused(capsys, f"--threestudio={root}", "--train")
    assert f"./install.sh --threestudio {root}" in err and ("another copy" if copy else "missing") in err


def test_without_a_folder_it_is_asked_for(capsys: Any) -> None:
    assert "--threestudio: expected one argument" in refused(capsys, "--config", "x.yaml", "--train", "--threestudio")


def test_type_checks_are_refused_rather_than_left_out(tmp_path: Path, capsys: Any) -> None:
    assert "--typecheck" in refused(capsys, "--threestudio", str(checkout(tmp_path)), "--train", "--typecheck")


def start(root: Path, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPOSITORY / "launch.py"), "--threestudio", str(root), "--train", *args],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.mark.parametrize("libigl", ["", "2.6.1"])
def test_a_missing_package_and_a_new_libigl_are_named(libigl: str, tmp_path: Path) -> None:
    root, packages = checkout(tmp_path / "threestudio"), tmp_path / "packages"
    (root / "threestudio" / "__init__.py").write_text("import a_package_of_threestudios")
    packages.mkdir()
    (packages / "igl.py").write_text("" if libigl else "fast_winding_number_for_meshes = None")
    if libigl:
        (packages / f"libigl-{libigl}.dist-info").mkdir()
        (packages / f"libigl-{libigl}.dist-info" / "METADATA").write_text(f"Name: libigl\nVersion: {libigl}\n")
    done = start(root, PYTHONPATH=str(packages))
    words = ["libigl 2.6.1", "pip install libigl==2.5.1"] if libigl else ["'a_package_of_threestudios'", "pip install"]
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ") and all(word in done.stderr for word in words)


def test_paths_of_the_caller_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").touch()
    Path("last.ckpt").touch()
    here = launch.absolute(["--config", "mine.yaml", "--train", "resume=last.ckpt", "name=mine.yaml"])
    config, checkpoint = tmp_path / "mine.yaml", tmp_path / "last.ckpt"
    assert here == ["--config", str(config), "--train", f"resume={checkpoint}", "name=mine.yaml"]
    there = ["--config=configs/dreamfusion-sd.yaml", "resume=outputs/last.ckpt"]
    assert launch.absolute(there) == there


@pytest.mark.parametrize("name", ["pullback-nerf.yaml", "configs/pullback-nerf.yaml"])
def test_a_shipped_config_is_found_by_its_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = str(CONFIGS / "pullback-nerf.yaml")
    assert launch.absolute(["--config", name, f"--config={name}"]) == ["--config", shipped, f"--config={shipped}"]


@pytest.mark.parametrize("action", ["--validate", "--test", "--export"])
def test_there_too_an_action_without_a_checkpoint_is_refused(action: str, tmp_path: Path, capsys: Any) -> None:
    words = ["--threestudio", str(checkout(tmp_path)), "--config", "pullback-nerf.yaml", action]
    assert "none is named; add resume=" in refused(capsys, *words)


def test_an_unknown_config_is_refused_with_those_that_are_shipped(tmp_path: Path, capsys: Any) -> None:
    root = checkout(tmp_path)
    err = refused(capsys, "--threestudio", str(root), "--config", "pullback-nrf.yaml", "--train")
    assert str(root) in err and "pullback-nerf.yaml, pullback-panorama-tiny.yaml" in err
