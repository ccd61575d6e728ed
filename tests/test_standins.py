"""Stand-ins for CUDA code against closed forms, brute force and dense evaluation; the launcher's sentences."""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import nerfacc
import pytest
import torch
from nerfacc.data_specs import RayIntervals
from pullback.errors import UserError
from pullback.host.encoders import HashGrid
from pullback.standins import grids, install, launch, segments

MODULES = Path(install.__file__).parent / "modules"
REPOSITORY = Path(__file__).parents[1]


def _tinycudann() -> Any:
    spec = importlib.util.spec_from_file_location("standin_tinycudann", MODULES / "always" / "tinycudann.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tcnn = _tinycudann()
GRID = {
    "otype": "HashGrid", "n_levels": 3, "n_features_per_level": 2, "log2_hashmap_size": 6, "base_resolution": 3,
    "per_level_scale": 1.7,
}  # fmt: skip


# ---- tinycudann


def test_the_hash_grid_is_the_hosts() -> None:
    encoding = tcnn.Encoding(3, {**GRID, "otype": "Grid", "type": "Hash", "start_level": 8}, dtype=torch.float32)
    host = HashGrid(3, **{k: v for k, v in GRID.items() if k != "otype"})
    assert encoding.n_output_dims == 6 and encoding.n_input_dims == 3
    (table,) = encoding.parameters()
    host.table.data = table.data
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


# ---- nerfacc


@pytest.fixture
def on_cpu() -> Iterator[None]:
    """nerfacc with its functions replaced, and as it was afterwards."""
    names = [name for names in install.NERFACC.values() for name in names]
    before = {name: getattr(nerfacc, name) for name in names}
    install.stand_in_nerfacc()
    yield
    for name in names:
        install.replace(getattr(nerfacc, name), before[name], "nerfacc")


def rays(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Origins around the box [-1, 1]³ and inside it; directions towards it, past it and away from it."""
    origins = torch.randn(n, 3) * 1.5
    return origins, torch.nn.functional.normalize(torch.randn(n, 3) - origins * torch.rand(n, 1), dim=-1)


BOXES = torch.tensor([[-1.0, -1, -1, 1, 1, 1], [-2, -2, -2, 2, 2, 2]])


def brute_force(o: Any, d: Any, cells: Any, near: float, far: float, step: float, most: int) -> list[int]:
    """k of the intervals near + [k, k+1]·step of one ray whose middles are before far and in an occupied cell."""
    found = []
    for k in range(int(8 / step)):
        t = near + (k + 0.5) * step
        point = o + t * d
        for grid, box in zip(cells, BOXES[: len(cells)], strict=True):
            if bool((point >= box[:3]).all()) and bool((point < box[3:]).all()):
                place = ((point - box[:3]) / (box[3:] - box[:3]) * torch.tensor(grid.shape)).long()
                if t < far and len(found) < most and grid[tuple(place)]:
                    found.append(k)
                break
    return found


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("limit", [None, 4])
@pytest.mark.parametrize("filled", [0.0, 0.3, 1.0])
def test_the_march_is_that_of_a_loop(levels: int, limit: int | None, filled: float) -> None:
    torch.manual_seed(0)
    (o, d), step = rays(40), 0.11
    cells = torch.rand(levels, 4, 5, 6) < filled
    near, far = torch.rand(40) * 0.4, 1.0 + torch.rand(40) * 4
    out = grids.traverse_grids(o, d, cells, BOXES[:levels], near, far, step, traverse_steps_limit=limit)
    intervals, samples = out[:2]
    left, right = intervals.vals[intervals.is_left], intervals.vals[intervals.is_right]
    for ray in range(40):
        expected = brute_force(o[ray], d[ray], cells, float(near[ray]), float(far[ray]), step, limit or 10**9)
        mine = samples.ray_indices == ray
        start = near[ray] + torch.tensor(expected) * step
        assert torch.allclose(left[mine], start, atol=1e-4) and torch.allclose(right[mine], start + step, atol=1e-4)
        first, count = samples.packed_info[ray].tolist()
        assert count == len(expected) and bool(mine[first : first + count].all())
        first, count = intervals.packed_info[ray].tolist()
        gaps = sum(b - a > 1 for a, b in pairwise(expected))
        assert count == (len(expected) + 1 + gaps if expected else 0)
        assert bool((intervals.ray_indices[first : first + count] == ray).all())
    assert torch.allclose(samples.vals, (left + right) / 2)


def test_a_march_says_where_it_ended_and_skips_masked_rays() -> None:
    o, d = torch.tensor([[-3.0, 0.1, 0.1]] * 3), torch.tensor([[1.0, 0, 0]] * 3)
    cells, mask = torch.ones(1, 2, 2, 2, dtype=torch.bool), torch.tensor([True, True, False])
    far = torch.tensor([9.0, 3.0, 9.0])
    _, samples, ends = grids.traverse_grids(o, d, cells, BOXES[:1], far_planes=far, step_size=0.5, rays_mask=mask)
    assert samples.packed_info[:, 1].tolist() == [4, 2, 0]  # the box is 2 long, and half of it before the far plane
    assert torch.allclose(ends[:2], torch.tensor([4.0, 3.0]))
    _, samples, ends = grids.traverse_grids(o, d, cells, BOXES[:1], step_size=0.5, traverse_steps_limit=3)
    assert samples.packed_info[:, 1].tolist() == [3] * 3 and torch.allclose(ends, torch.tensor(3.5))


@pytest.mark.usefixtures("on_cpu")
def test_the_occupancy_grid_fills_and_skips_the_empty_half() -> None:
    torch.manual_seed(0)
    estimator = nerfacc.OccGridEstimator(BOXES[0], resolution=8)
    o, d = torch.tensor([[-3.0, 0.3, 0.1], [-3.0, 9, 9]]), torch.tensor([[1.0, 0, 0]] * 2)
    assert len(estimator.sampling(o, d, render_step_size=0.01)[0]) == 0
    estimator.train()
    estimator.update_every_n_steps(0, lambda x: (x[:, :1] > 0).float())
    ray, starts, ends = estimator.sampling(o, d, render_step_size=0.01, stratified=True)
    assert bool((ray == 0).all()) and abs(float((ends - starts).sum()) - 1) < 0.02
    assert float(starts.min()) > 2.98 and float(ends.max()) < 4.02
    # light that comes through 0.2 of density 50 is e^-10 of it, below the 1e-4 at which a march may stop
    _, starts, _ = estimator.sampling(o, d, render_step_size=0.01, sigma_fn=lambda s, e, r: torch.full_like(s, 50.0))
    assert 0.15 < float(starts.max()) - 3 < 0.2


COUNTS = [3, 0, 5, 1, 4]


def packed(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The first COUNTS[r] values of each row of [R, S], one after the other, and their rows."""
    there = torch.arange(values.shape[1]) < torch.tensor(COUNTS)[:, None]
    return values[there], there.nonzero()[:, 0]


def test_packing_counts_the_samples_of_every_ray() -> None:
    _, ray = packed(torch.zeros(5, 5))
    assert segments.pack_info(ray, 6).tolist() == [[0, 3], [3, 0], [3, 5], [8, 1], [9, 4], [13, 0]]
    assert segments.pack_info(ray).shape == (5, 2)
    assert segments.pack_info(ray[:0], 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("name", ["inclusive_sum", "exclusive_sum", "inclusive_prod", "exclusive_prod"])
def test_scans_are_those_of_each_ray_alone_and_twice_differentiable(name: str) -> None:
    torch.manual_seed(0)
    values = torch.rand(5, 5, dtype=torch.float64)
    flat, ray = packed(values)
    info, scan = segments.pack_info(ray, 5), getattr(segments, name)
    loop = torch.cumsum if name.endswith("sum") else torch.cumprod
    for (first, count), row in zip(info.tolist(), values, strict=True):
        expected = loop(row[:count], 0)
        if name.startswith("exclusive") and count:
            expected = torch.cat([torch.tensor([0.0 if name.endswith("sum") else 1.0]), expected[:-1]])
        assert torch.allclose(scan(flat, info)[first : first + count], expected)
    flat.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: scan(x, info), flat)
    assert torch.autograd.gradgradcheck(lambda x: scan(x, info), flat)
    assert len(scan(flat[:0], info[:0])) == 0


def test_an_infinite_sample_stays_on_its_ray() -> None:
    flat, ray = packed(torch.ones(5, 5))
    flat[0] = torch.inf
    total = segments.inclusive_sum(flat, segments.pack_info(ray, 5))
    assert bool(total[:3].isinf().all()) and bool(total[3:].isfinite().all())


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("kind", ["density", "alpha"])
def test_rendering_packed_rays_is_rendering_dense_ones_with_empty_ends(kind: str) -> None:
    torch.manual_seed(0)
    there = torch.arange(5) < torch.tensor(COUNTS)[:, None]
    edges = torch.rand(5, 6, dtype=torch.float64).cumsum(1)
    value = (torch.rand(5, 5, dtype=torch.float64) * there).requires_grad_()
    colour = torch.rand(5, 5, 3, dtype=torch.float64)
    if kind == "alpha":
        value.data[2, 1] = 1.0  # an opaque sample: behind it nothing is seen, and gradients are finite
    flat, ray = packed(value)
    starts, ends = packed(edges[:, :-1])[0], packed(edges[:, 1:])[0]
    if kind == "density":
        dense = nerfacc.render_weight_from_density(edges[:, :-1], edges[:, 1:], value)[0]
        thin = nerfacc.render_weight_from_density(starts, ends, flat, ray_indices=ray, n_rays=5)[0]
    else:
        dense = nerfacc.render_weight_from_alpha(value)[0]
        thin = nerfacc.render_weight_from_alpha(flat, ray_indices=ray, n_rays=5)[0]
    assert torch.allclose(thin, packed(dense)[0])
    whole = nerfacc.accumulate_along_rays(dense, colour)
    sums = nerfacc.accumulate_along_rays(thin, packed(colour)[0], ray, 5)
    assert torch.allclose(sums, whole)
    target = torch.rand_like(whole)
    gradients = [torch.autograd.grad(((x - target) ** 2).sum(), value, retain_graph=True)[0] for x in (sums, whole)]
    assert torch.allclose(gradients[0][there], gradients[1][there]) and bool(gradients[0].isfinite().all())
    if kind == "alpha":
        visible = nerfacc.render_visibility_from_alpha(flat, ray_indices=ray, n_rays=5, alpha_thre=0.2)
        through = nerfacc.render_transmittance_from_alpha(flat, ray_indices=ray, n_rays=5)
        assert torch.equal(visible, (through >= 1e-4) & (flat >= 0.2)) and not visible.all()


def test_importance_sampling_inverts_the_cdf() -> None:
    torch.manual_seed(0)
    edges = torch.rand(3, 7, dtype=torch.float64).cumsum(1)
    cdfs = torch.cat([torch.zeros(3, 1), torch.rand(3, 6).cumsum(1)], 1).double()
    intervals, samples = segments.importance_sampling(RayIntervals(vals=edges), cdfs, 5)
    for row in range(3):
        u = (torch.arange(5) + 0.5) / 5 * cdfs[row, -1]
        for value, wanted in zip(samples.vals[row], u, strict=True):
            i = int((cdfs[row] <= wanted).sum()) - 1
            part = (wanted - cdfs[row, i]) / (cdfs[row, i + 1] - cdfs[row, i])
            assert torch.isclose(value, edges[row, i] + part * (edges[row, i + 1] - edges[row, i]))
    middles = (samples.vals[:, 1:] + samples.vals[:, :-1]) / 2
    assert torch.allclose(intervals.vals[:, 1:-1], middles)
    assert bool((intervals.vals[:, 0] >= edges[:, 0]).all()) and bool((intervals.vals[:, -1] <= edges[:, -1]).all())
    assert bool((intervals.vals.diff(dim=1) > 0).all())


def test_importance_sampling_shifts_a_rays_samples_together_and_bears_a_flat_cdf() -> None:
    torch.manual_seed(0)
    unit = torch.tensor([[0.0, 1.0]]).expand(1000, 2)
    _, samples = segments.importance_sampling(RayIntervals(vals=unit), unit, 4, stratified=True)
    assert torch.allclose(samples.vals.diff(dim=1), torch.tensor(0.25), atol=1e-6)
    assert 0 <= float(samples.vals.min()) < 0.01 and 0.99 < float(samples.vals.max()) <= 1
    edges, nothing = torch.tensor([[0.0, 1.0, 2.0]]), torch.zeros(1, 3)
    intervals, _ = segments.importance_sampling(RayIntervals(vals=edges), nothing, 1)
    assert intervals.vals.tolist() == [[0.0, 2.0]]
    assert bool(segments.importance_sampling(RayIntervals(vals=edges), nothing, 4)[0].vals.isfinite().all())


def test_search_finds_both_neighbours() -> None:
    edges, values = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[-1.0, 0.0, 0.5, 1.0, 2.0, 3.0]])
    left, right = segments.searchsorted(RayIntervals(vals=edges), RayIntervals(vals=values))
    assert left.tolist() == [[0, 0, 0, 1, 2, 2]] and right.tolist() == [[0, 1, 1, 2, 2, 2]]


@pytest.mark.usefixtures("on_cpu")
def test_a_proposal_estimator_learns_where_the_wall_is() -> None:
    torch.manual_seed(0)
    height = torch.nn.Parameter(torch.full((16,), 0.1))  # density of 16 equal stretches of the ray from 1 to 3
    estimator = nerfacc.PropNetEstimator(torch.optim.Adam([height], 0.1))

    def wall(starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return 20.0 * ((starts + ends) / 2 > 2)

    def proposal(starts: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return height.clamp(min=0)[(((starts + ends) / 2 - 1) * 8).long().clamp(0, 15)]

    def near_the_wall() -> float:
        sampling = estimator.sampling(
            [proposal], [32], 16, 64, 1.0, 3.0, "uniform", stratified=True, requires_grad=True
        )
        trans, _ = nerfacc.render_transmittance_from_density(*sampling, wall(*sampling))
        estimator.update_every_n_steps(trans, requires_grad=True)
        middles = (sampling[0] + sampling[1]) / 2
        return float(((middles > 1.9) & (middles < 2.2)).float().mean())

    before = near_the_wall()
    for _ in range(150):
        after = near_the_wall()
    assert before < 0.25 and after > 0.5


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
import nvdiffrast.torch as dr
from controlnet_aux import CannyDetector
from torchvision import models
from torchvision.transforms import InterpolationMode, functional
import torchvision.models.vgg
from pullback.errors import UserError
assert InterpolationMode.BICUBIC.value == "bicubic" and not hasattr(models, "__wrapped__")
dr.RasterizeGLContext(device="cpu")
for use in (lambda: dr.rasterize(1), CannyDetector, lambda: models.vgg16, lambda: functional.resize(1)):
    try:
        use()
    except UserError as e:
        print(e)
""")
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert "nvdiffrast.torch.rasterize" in lines[0] and "needs CUDA" in lines[0]
    assert "pip install controlnet_aux" in lines[1]
    assert "torchvision.models" in lines[2] and "pip install torchvision" in lines[3]


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
