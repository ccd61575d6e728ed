"""The hash grid against tiny-cuda-nn's formulas, worked out here in plain Python, and checkpoints in both directions.

The formulas are those of tiny-cuda-nn's grid.h and common_device.h (commit 6ee3546).
"""

from __future__ import annotations

import importlib.util
import math
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pullback import cuda_standins
from pullback.errors import UserError
from pullback.host import launch
from pullback.host.base import load_module_weights, load_state
from pullback.host.parts import load_parts
from pullback.host.registry import find
from pullback.host.scene import encoding, tiny_cuda
from pullback.host.scene.encoders import Frequency, HashGrid, SphericalHarmonics
from pullback.host.scene.networks import get_mlp

MODULES = Path(cuda_standins.__file__).parent / "modules"
THREESTUDIO = {  # its default encoding of an implicit-volume
    "n_levels": 16, "n_features_per_level": 2, "log2_hashmap_size": 19, "base_resolution": 16,
    "per_level_scale": 1.447269237440378,
}  # fmt: skip
SMALL = {**THREESTUDIO, "n_levels": 3, "log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 1.5}


def single(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]


def reference(
    params: list[float], x: list[float], n_levels: int, n_features_per_level: int, log2_hashmap_size: int,
    base_resolution: int, per_level_scale: float,
) -> list[float]:  # fmt: skip
    """tiny-cuda-nn's encoding of one position, one number at a time."""
    primes, dims, out, offset = (1, 2654435761, 805459861, 3674653429), len(x), [], 0
    for level in range(n_levels):
        exponent = single(level * single(math.log2(single(per_level_scale))))
        scale = single(single(single(math.pow(2.0, exponent)) * base_resolution) - 1)  # grid_scale
        resolution = math.ceil(scale) + 1  # grid_resolution
        entries = resolution**dims
        if entries % 8:
            entries += 8 - entries % 8  # next_multiple
        entries = min(entries, 1 << log2_hashmap_size)
        position = [scale * c + 0.5 for c in x]  # pos_fract
        cell = [math.floor(p) for p in position]
        fraction = [p - c for p, c in zip(position, cell, strict=True)]
        sums = [0.0] * n_features_per_level
        for corner in range(1 << dims):
            weight, vertex = 1.0, []
            for d in range(dims):
                upper = corner >> d & 1
                weight *= fraction[d] if upper else 1 - fraction[d]
                vertex.append(cell[d] + upper)
            index, stride = 0, 1  # grid_index, in 32 bits
            for d in range(dims):
                index, stride = index + vertex[d] * stride, stride * resolution
            if entries < stride:
                index = 0
                for d in range(dims):
                    index ^= vertex[d] * primes[d] & 0xFFFFFFFF
            index %= entries
            for f in range(n_features_per_level):
                sums[f] += weight * params[(offset + index) * n_features_per_level + f]
        out += sums
        offset += entries
    assert len(params) == offset * n_features_per_level
    return out


@pytest.mark.parametrize(
    ("dims", "options", "hashed"),
    [
        (3, SMALL, [False, False, True]),  # 4³ = 64, 6³ = 216 and 8³ = 512 vertices; 2⁸ = 256 entries
        (3, {**SMALL, "n_levels": 5, "n_features_per_level": 4, "log2_hashmap_size": 6}, [False, *[True] * 4]),
        (2, {**SMALL, "base_resolution": 5, "per_level_scale": 2.0}, [False, False, True]),  # 25, rounded up to 32
        (3, {**SMALL, "n_levels": 2, "base_resolution": 1, "n_features_per_level": 1}, [False, False]),  # one vertex
        (4, {**SMALL, "n_levels": 2}, [False, True]),
    ],
)
def test_values_are_those_of_the_formulas(dims: int, options: dict[str, Any], hashed: list[bool]) -> None:
    random = torch.Generator().manual_seed(0)
    grid = HashGrid(dims, **options).double()
    assert [level.hashed for level in grid.levels] == hashed
    grid.params.data = torch.randn(grid.params.shape, generator=random, dtype=torch.float64)
    points = torch.rand(40, dims, generator=random, dtype=torch.float64)
    points[:5] = points[:5].round()  # corners of the cube, where an index runs past the end of its row
    expected = [reference(grid.params.tolist(), x, **options) for x in points.tolist()]
    torch.testing.assert_close(grid(points), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    single_precision = HashGrid(dims, **options)
    single_precision.params.data = grid.params.data.float()
    torch.testing.assert_close(single_precision(points.float()).double(), grid(points), rtol=1e-4, atol=1e-4)


def test_levels_and_entries_worked_out_by_hand() -> None:
    """threestudio's default: 4 levels of its own vertices, then tables of 2^19.

    Level 1: 16 · 1.447269 − 1 = 22.1563, 24 vertices a side, 24³ = 13,824 entries after level 0's 16³ = 4,096. At
    x = (½, ¼, ¾) the position is (11.578, 6.039, 17.117), so the cell begins at vertex (11, 6, 17), which is entry
    11 + 6 · 24 + 17 · 576 = 9,947. Level 5 is the first with too many vertices, 102³. At the same x its position is
    100.5937 x + ½ = (50.797, 25.648, 75.945), and the entry of vertex (50, 25, 75) is
    50 ⊕ 25 · 2654435761 ⊕ 75 · 805459861 modulo 2^19 = 50 ⊕ 189001 ⊕ 501927 = 346844.
    """
    grid = HashGrid(3, **THREESTUDIO)
    assert [level.size for level in grid.levels[:6]] == [4096, 13824, 39304, 117656, 357912, 524288]
    assert [level.resolution for level in grid.levels[:6]] == [16, 24, 34, 49, 71, 102]
    assert [level.hashed for level in grid.levels] == [level >= 5 for level in range(16)]
    assert len(grid.params) == 2 * (532792 + 11 * 524288) == 12599920
    assert 25 * 2654435761 % 2**19 == 189001 and 75 * 805459861 % 2**19 == 501927
    x = torch.tensor([[0.5, 0.25, 0.75]], dtype=torch.float64)
    grid.double()
    out = grid(x)[0]
    for level, entry, fraction in [
        (1, 9947, (0.578154, 0.039077, 0.117230)),
        (5, 50 ^ 189001 ^ 501927, (0.796829, 0.648415, 0.945244)),
    ]:
        (slope,) = torch.autograd.grad(out[2 * level + 1], grid.params, retain_graph=True)
        found = slope.view(-1, 2)[grid.levels[level].offset + entry]
        weight = math.prod(1 - f for f in fraction)
        assert found.tolist() == [0.0, pytest.approx(weight, rel=2e-4)]


def test_initial_values_are_uniform_within_a_ten_thousandth() -> None:
    torch.manual_seed(0)
    params = HashGrid(3, **THREESTUDIO).params.detach()
    assert float(params.abs().max()) <= 1e-4
    assert float(params.std()) == pytest.approx(1e-4 / math.sqrt(3), rel=2e-3)  # 12.6 million of them
    assert abs(float(params.mean())) < 1e-7  # the standard error is 1.6e-8


# ---- checkpoints


def standin() -> Any:
    """tiny-cuda-nn's interface, by our stand-in, which real threestudio runs with on a CPU."""
    spec = importlib.util.spec_from_file_location("standin_tinycudann", MODULES / "always" / "tinycudann.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Wrapped(torch.nn.Module):
    """What threestudio/models/networks.py makes of an encoding: CompositeEncoding → TCNNEncoding → tcnn.Encoding."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.encoding = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.encoding(x)


def theirs(config: dict[str, Any]) -> torch.nn.Module:
    return Wrapped(Wrapped(standin().Encoding(3, config, dtype=torch.float32)))


ENCODINGS = [
    {"otype": "HashGrid", **SMALL},
    {"otype": "SphericalHarmonics", "degree": 3},
    {"otype": "Frequency", "n_frequencies": 4},
    {"otype": "Identity"},
]


@pytest.mark.parametrize("config", ENCODINGS, ids=lambda config: config["otype"])
def test_an_encoding_loads_from_threestudio_and_into_it(config: dict[str, Any]) -> None:
    first, second = theirs(config), encoding.get_encoding(3, config)
    assert list(first.state_dict()) == ["encoding.encoding.params"] == list(second.state_dict())
    x = torch.rand(20, 3)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x), second(x))
    third = theirs(config)
    third.load_state_dict(encoding.get_encoding(3, config).state_dict())
    second.load_state_dict(third.state_dict())
    assert torch.equal(third(x), second(x))


def threestudio_state() -> dict[str, torch.Tensor]:
    """The names and shapes of an implicit-volume with threestudio's defaults, SMALL apart, and its background."""
    random = torch.Generator().manual_seed(0)
    shapes = {
        "geometry.bbox": (2, 3),
        "geometry.encoding.encoding.encoding.params": (2 * (64 + 216 + 256),),
        "geometry.density_network.layers.0.weight": (64, 6),
        "geometry.density_network.layers.2.weight": (1, 64),
        "geometry.feature_network.layers.0.weight": (64, 6),
        "geometry.feature_network.layers.2.weight": (3, 64),
        "background.encoding.encoding.encoding.params": (0,),
        "background.network.layers.0.weight": (16, 9),
        "background.network.layers.2.weight": (16, 16),
        "background.network.layers.4.weight": (3, 16),
    }
    state = {name: torch.randn(shape, generator=random) for name, shape in shapes.items()}
    return {**state, "geometry.bbox": torch.tensor([[-1.0] * 3, [1.0] * 3])}


def scene() -> torch.nn.ModuleDict:
    load_parts()
    geometry = find("implicit-volume")({"pos_encoding_config": {"otype": "HashGrid", **SMALL}})
    return torch.nn.ModuleDict({"geometry": geometry, "background": find("neural-environment-map-background")({})})


def save(path: Path, state: dict[str, torch.Tensor]) -> str:
    torch.save({"state_dict": state, "epoch": 0, "global_step": 7}, path)
    return str(path)


def test_a_checkpoint_of_threestudio_loads_and_ours_has_its_names(tmp_path: Path) -> None:
    state = threestudio_state()
    path = save(tmp_path / "a.ckpt", state)
    made, (loaded, _, step) = scene(), load_module_weights(path)
    load_state(made, loaded, "it")
    assert step == 7
    ours = made.state_dict()
    assert ours.keys() == state.keys() and all(torch.equal(ours[k], state[k]) for k in state)
    x = torch.rand(30, 3) * 2 - 1
    encoded = torch.tensor(
        [
            reference(state["geometry.encoding.encoding.encoding.params"].tolist(), p, **SMALL)
            for p in ((x + 1) / 2).tolist()
        ]
    )
    layers = [state[f"geometry.feature_network.layers.{i}.weight"] for i in (0, 2)]
    expected = (encoded @ layers[0].T).relu() @ layers[1].T
    torch.testing.assert_close(made["geometry"](x)["features"], expected, rtol=1e-3, atol=1e-3)


def test_weights_of_a_part_come_from_a_checkpoint_of_threestudio(tmp_path: Path) -> None:
    state = threestudio_state()
    path = save(tmp_path / "a.ckpt", state)
    load_parts()
    part = find("neural-environment-map-background")({"weights": f"{path}:background"})
    assert torch.equal(part.network.layers["4"].weight, state["background.network.layers.4.weight"])
    d = torch.nn.functional.normalize(torch.randn(1, 4, 5, 3), dim=-1)
    band = [torch.full_like(d[..., 0], 0.5 / math.sqrt(math.pi))]
    x, y, z = d.unbind(-1)
    band += [-math.sqrt(3 / (4 * math.pi)) * y, math.sqrt(3 / (4 * math.pi)) * z, -math.sqrt(3 / (4 * math.pi)) * x]
    torch.testing.assert_close(part.encoding((d.reshape(-1, 3) + 1) / 2)[:, :4].view(1, 4, 5, 4), torch.stack(band, -1))


def old_state() -> dict[str, torch.Tensor]:
    """The background's part of a checkpoint of version 0.1: layers counted one by one, nothing of the encoding."""
    state = threestudio_state()
    return {
        f"network.layers.{i}.weight": state[f"background.network.layers.{2 * i}.weight"]
        for i in range(3)
    }  # fmt: skip


def test_a_background_of_version_0_1_keeps_its_colours() -> None:
    load_parts()
    part, state = find("neural-environment-map-background")({}), old_state()
    d = torch.nn.functional.normalize(torch.randn(50, 3), dim=-1)
    x, y, z = d.unbind(-1)
    a, b, c = (math.sqrt(n / (16 * math.pi)) for n in (12, 60, 5))
    columns = [torch.full_like(x, 0.5 / math.sqrt(math.pi)), a * y, a * z, a * x]
    columns += [b * x * y, b * y * z, c * (3 * z**2 - 1), b * x * z, b / 2 * (x**2 - y**2)]
    hidden = torch.stack(columns, -1)
    for i in range(2):
        hidden = (hidden @ state[f"network.layers.{i}.weight"].T).relu()
    expected = (hidden @ state["network.layers.2.weight"].T).sigmoid()
    load_state(part, dict(state), "it")
    torch.testing.assert_close(part(d.view(1, 5, 10, 3)).view(-1, 3), expected, rtol=1e-4, atol=1e-5)
    again = find("neural-environment-map-background")({})
    load_state(again, part.state_dict(), "it")  # saved again, it is still of that order
    assert torch.equal(again(d.view(1, 5, 10, 3)), part(d.view(1, 5, 10, 3)))
    load_state(again, find("neural-environment-map-background")({}).state_dict(), "it")
    assert again.encoding.encoding.encoding.params is not None


def test_frequencies_keep_the_order_of_version_0_1_where_a_checkpoint_is_of_it() -> None:
    made, x = Frequency(2, 3), torch.rand(5, 2)
    by_coordinate = made(x).view(5, 2, 3, 2)
    made.load_state_dict({})
    sines, cosines = made(x).view(5, 2, 2, 3).unbind(1)
    torch.testing.assert_close(torch.stack([sines, cosines], -1), by_coordinate)


@pytest.mark.parametrize(
    "name",
    [
        "geometry.encoding.encoding.table",
        "geometry.encoding.encoding.grid.table",
        "geometry.encoding.encoding.encoding.encoding.table",
    ],
)
def test_a_hash_grid_of_version_0_1_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / "a.ckpt", {name: torch.zeros(536, 2)})
    with pytest.raises(UserError) as e:
        load_module_weights(path, where="system.weights")
    assert all(word in str(e.value) for word in ("`system.weights`", path, "version 0.1", "cmd.txt", "train anew"))
    with pytest.raises(UserError, match=r"version 0\.1"):
        theirs(ENCODINGS[0]).load_state_dict({"encoding.encoding.encoding.table": torch.zeros(536, 2)})


def test_networks_of_either_numbering_load() -> None:
    config = {"otype": "VanillaMLP", "n_neurons": 4, "n_hidden_layers": 2}
    new, x = get_mlp(3, 2, config), torch.rand(5, 3)
    old = {f"layers.{i}.weight": new.state_dict()[f"layers.{2 * i}.weight"] for i in range(3)}
    for state in (old, new.state_dict()):
        other = get_mlp(3, 2, config)
        other.load_state_dict(dict(state))
        assert torch.equal(other(x), new(x))


def test_weights_of_another_shape_are_one_sentence(tmp_path: Path) -> None:
    state = threestudio_state()
    state["geometry.density_network.layers.0.weight"] = torch.zeros(64, 32)
    with pytest.raises(UserError, match="does not fit this config"):
        load_state(scene(), state, "`system.weights`", strict=False)


# ---- the choice of a backend


@pytest.fixture
def tinycudann(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The stand-in under the name of the package, with the trials of earlier tests forgotten."""
    module = standin()
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    tiny_cuda.trouble.cache_clear()
    yield module
    tiny_cuda.trouble.cache_clear()


@pytest.mark.parametrize("otype", ["HashGrid", "ProgressiveBandHashGrid"])
def test_tiny_cuda_nn_by_name_has_the_same_values_and_bands(tinycudann: Any, otype: str) -> None:
    config = {"otype": otype, **SMALL}
    if otype.startswith("Progressive"):
        config |= {"start_level": 1, "start_step": 0, "update_steps": 10}
    first, second = (encoding.get_encoding(3, {**config, "backend": name}) for name in ("tinycudann", "torch"))
    assert isinstance(first.encoding.encoding, tinycudann.Encoding)
    assert isinstance(second.encoding.encoding, HashGrid)
    second.load_state_dict(first.state_dict())
    x = torch.rand(30, 3)
    for step in (0, 10, 20, 5):
        for made in (first, second):
            made.do_update_step(0, step)
        assert torch.equal(first(x), second(x))


def test_a_backend_that_cannot_be_had_is_said_with_its_reason(tinycudann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel image is available\nfor this device")

    monkeypatch.setattr(tinycudann, "Encoding", broken)
    config = {"otype": "HashGrid", **SMALL, "backend": "tinycudann"}
    with pytest.raises(UserError) as e:
        encoding.get_encoding(3, config, "system.geometry.pos_encoding_config")
    words = ["`system.geometry.pos_encoding_config.backend`", "cpu", "no kernel image is available", "auto"]
    assert all(word in str(e.value) for word in words) and "for this device" not in str(e.value)


def test_a_package_with_another_layout_is_not_used(tinycudann: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Shifted(tinycudann.Encoding):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * 0.99)

    monkeypatch.setattr(tinycudann, "Encoding", Shifted)
    assert "layout" in str(tiny_cuda.trouble(torch.device("cpu")))


def test_auto_falls_back_where_the_package_does_not_work(
    tinycudann: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    monkeypatch.setattr(encoding, "info", said.append)
    encoding._say_once.cache_clear()
    # the only lie: that the device is a GPU; the trial then fails as it does on a machine without one
    monkeypatch.setattr(encoding, "get_device", lambda: torch.device("cuda:0"))
    monkeypatch.setattr(encoding, "_has", lambda package: True)
    monkeypatch.setattr(encoding, "fused_trouble", lambda *_: "too old a driver")
    for _ in range(2):
        made = encoding.get_encoding(3, {"otype": "HashGrid", **SMALL})
        assert isinstance(made.encoding.encoding, HashGrid)
    (line,) = said
    assert "tiny-cuda-nn" in line and "PyTorch" in line
    # where the fused kernels work, the package is not even tried
    monkeypatch.setattr(encoding, "fused_trouble", lambda *_: None)
    monkeypatch.setattr(encoding, "trouble", lambda *_: pytest.fail("tried"))
    assert isinstance(encoding.get_encoding(3, {"otype": "HashGrid", **SMALL}).encoding.encoding, HashGrid)


def test_another_backend_is_named() -> None:
    with pytest.raises(UserError) as e:
        encoding.get_encoding(3, {"otype": "HashGrid", "backend": "cuda"}, "a.b")
    assert all(word in str(e.value) for word in ("`a.b.backend`", "'cuda'", "auto", "torch", "tinycudann"))
    with pytest.raises(UserError, match="backend"):  # only a hash grid has the choice
        encoding.get_encoding(3, {"otype": "Frequency", "backend": "torch"}, "a.b")


def test_harmonics_have_the_condon_shortley_phase() -> None:
    d = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=-1)
    x, y, z = d.unbind(-1)
    out = SphericalHarmonics(3, 4)((d + 1) / 2)
    # written out from Y_3m = N P_3^|m|(z) · (cos or sin)(m φ), with the sign (−1)^m
    n = math.sqrt(7 / math.pi)
    expected = [
        -math.sqrt(5 / 32) * n * y * (3 * x**2 - y**2), math.sqrt(15 / 4) * n * x * y * z,
        -math.sqrt(3 / 32) * n * y * (5 * z**2 - 1), n / 4 * z * (5 * z**2 - 3),
        -math.sqrt(3 / 32) * n * x * (5 * z**2 - 1), math.sqrt(15 / 16) * n * z * (x**2 - y**2),
        -math.sqrt(5 / 32) * n * x * (x**2 - 3 * y**2),
    ]  # fmt: skip
    torch.testing.assert_close(out[:, 9:], torch.stack(expected, -1))


@pytest.mark.skipif(importlib.util.find_spec("tinycudann") is not None, reason="tiny-cuda-nn is installed")
def test_a_run_that_asks_for_a_backend_by_name_ends_before_a_model_is_looked_for(tmp_path: Path, capsys: Any) -> None:
    overrides = [
        f"exp_root_dir={tmp_path}", "system.prompt_processor.prompt=x",
        "system.guidance.pretrained_model_name_or_path=/no/model",
        "system.prompt_processor.pretrained_model_name_or_path=/no/model",
        "system.geometry.pos_encoding_config.backend=tinycudann",
    ]  # fmt: skip
    assert launch.main(["--config", "configs/pullback-nerf.yaml", "--train", *overrides]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    words = ("`system.geometry.pos_encoding_config.backend`", "tinycudann", "is not installed", "set it to auto")
    assert all(word in line for word in words) and "/no/model" not in line
