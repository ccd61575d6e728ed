"""Where the memory does not suffice: the stage, the keys that help there, and the checkpoint that is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pullback.fitting import solvers
from pullback.host import launch, out_of_memory
from pullback.host.explain import explain
from pullback.host.scene.geometry import DensityField
from pullback.render.backends import fused_trouble
from pullback.render.fused import render as fused
from test_system import arguments, checkpoint, folder
from tiny_pipeline import build

ON_GPU = (
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 7.79 GiB of which 1.10 GiB is free."
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "sd"
    build(path)
    return path


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert launch.main(arguments(model, out, "trainer.max_steps=1")) == 0
    return out


def gpu() -> None:
    """PyTorch's own class, with a text of its own."""
    raise torch.cuda.OutOfMemoryError(ON_GPU)


def cpu() -> None:
    """The CPU's allocator asked for 2^60 bytes."""
    torch.empty(2**60, dtype=torch.uint8)


def numpy() -> None:
    """NumPy's MemoryError."""
    np.empty(2**60, dtype=np.uint8)


def raised(how: Callable[[], None]) -> BaseException:
    with pytest.raises((RuntimeError, MemoryError)) as e:
        how()
    return e.value


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (gpu, ["out of GPU memory, at 2.00 GiB more"]),
        (cpu, ["out of memory, at 1.07e+09 GiB more"]),
        (numpy, ["out of memory"]),
    ],
)
def test_every_allocator_is_known(how: Callable[[], None], words: list[str]) -> None:
    told = explain(raised(how), {"data": {"batch_size": 4}})
    assert told is not None and told[1] == 1
    assert all(word in told[0] for word in [*words, "lower `data.batch_size`, now 4"]), told


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "Failed to allocate 4294967296 bytes on device 'cuda:0'",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to "
        "allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)",
    ],
)
def test_runtime_errors_of_allocators_are_known_by_their_words(text: str) -> None:
    told = explain(RuntimeError(text))
    assert told is not None and told[0].startswith("out of ") and told[1] == 1
    assert ("GPU" in told[0]) == ("CU" in text or "cuda" in text)
    assert ("at 4 GiB more" in told[0]) == ("4294967296" in text)


def test_other_errors_are_not() -> None:
    assert explain(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert explain(ValueError("out of memory")) is None


def told(capsys: Any, status: int, *args: str) -> str:
    capsys.readouterr()
    assert launch.main(list(args)) == status
    err = capsys.readouterr().err
    assert err.startswith("error: out of ") and len(err.splitlines()) == 1, err
    return err


def breaks(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, how: Callable[[], None], when: Any = None) -> None:
    whole = getattr(owner, name)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if when is None or when():
            how()
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, broken)


def in_networks(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> None:
    from diffusers import UNet2DConditionModel

    breaks(monkeypatch, UNet2DConditionModel, "forward", how)


def in_encoder(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> None:
    from diffusers import AutoencoderKL

    breaks(monkeypatch, AutoencoderKL, "encode", how)


def in_loading(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> None:
    from diffusers import AutoencoderKL

    breaks(monkeypatch, AutoencoderKL, "from_pretrained", how)


def in_field(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None], when: Any = None) -> None:
    """By either way to render."""
    breaks(monkeypatch, DensityField, "forward", how, when)
    breaks(monkeypatch, fused, "render", how, when)


def in_fit(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> None:
    in_field(monkeypatch, how, when=torch.is_grad_enabled)


def in_renders(monkeypatch: pytest.MonkeyPatch, how: Callable[[], None]) -> None:
    in_field(monkeypatch, how, when=lambda: not torch.is_grad_enabled())


@pytest.mark.parametrize("how", [gpu, cpu, numpy])
@pytest.mark.parametrize(
    ("where", "words"),
    [
        (
            in_loading,
            ["while the diffusion model loads", "set `system.guidance.enable_sequential_cpu_offload` to true"],
        ),
        (in_networks, ["networks", "lower `system.guidance.views_per_call`, now 8", "`data.batch_size`, now 2"]),
        (
            in_encoder,
            ["networks", "`system.guidance.views_per_call`", "set `system.guidance.enable_attention_slicing`"],
        ),
        (in_fit, ["in the fit of a level to whole pictures", "lower `data.batch_size`, now 2", "`data.width`, now 16"]),
        (in_renders, ["a visit's views", "lower `system.renderer.eval_chunk_size`, now 160000"]),
    ],
)
def test_the_stage_and_its_keys(
    where: Any, how: Any, words: list[str], model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    where(monkeypatch, how)
    options = ["system.guidance.fit_space=latent", "system.renderer.backend=torch"]
    sentence = told(capsys, 1, *arguments(model, tmp_path, *options))
    assert all(word in sentence for word in words), sentence


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_fit_in_image_space_needs_less_with_fewer_rays(
    backend: str, model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_fit(monkeypatch, cpu)
    sentence = told(capsys, 1, *arguments(model, tmp_path, f"system.renderer.backend={backend}"))
    assert "in the fit of a level, " in sentence and "; lower `system.guidance.fit_rays`, now 64" in sentence


def test_the_fused_renderer_has_no_use_for_fewer_samples(
    model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fused_trouble(torch.device("cpu"), "voxels"):
        pytest.skip("the fused kernels cannot be had")
    in_renders(monkeypatch, cpu)
    sentence = told(capsys, 1, *arguments(model, tmp_path))
    assert (
        "a visit's views" in sentence and "`data.batch_size`, now 2" in sentence and "system.renderer" not in sentence
    )


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("--validate", ["pictures of validation or test", "`system.renderer.eval_chunk_size`", "eval_width`, now 16"]),
        ("--test", ["pictures of validation or test", "`system.renderer.eval_chunk_size`"]),
        ("--export", ["in the export, at", "; lower `system.geometry.isosurface_resolution`, now 16"]),
    ],
)  # fmt: skip
def test_pictures_and_meshes(
    action: str, words: list[str], trained: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaks(monkeypatch, DensityField, "forward_density" if action == "--export" else "forward", gpu)
    torch_alone = "system.renderer.backend=torch"
    trial = folder(trained)
    resume = f"resume={trial / 'ckpts' / 'last.ckpt'}"
    sentence = told(capsys, 1, "--config", str(trial / "configs" / "parsed.yaml"), action, resume, torch_alone)
    assert all(word in sentence for word in words), sentence


def test_the_last_whole_step_is_kept_and_goes_on_with_the_keys_that_the_sentence_names(
    model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    with monkeypatch.context() as patch:
        breaks(patch, solvers.FirstOrder, "solve", cpu, when=lambda: calls.append(1) or len(calls) == 3)
        never = "checkpoint.every_n_train_steps=100"
        assert launch.main(arguments(model, tmp_path, never)) == 1
    printed = capsys.readouterr()
    assert "lower `system.guidance.fit_rays`" in printed.err and "The last whole step is saved" in printed.out
    assert checkpoint(tmp_path)["global_step"] == 2
    resume = f"resume={folder(tmp_path) / 'ckpts' / 'last.ckpt'}"
    fewer = ["system.guidance.fit_rays=32", "system.guidance.views_per_call=1", "system.renderer.eval_chunk_size=512"]
    assert launch.main(arguments(model, tmp_path, resume, *fewer)) == 0
    assert checkpoint(tmp_path)["global_step"] == 6


def test_every_key_that_a_sentence_may_name_is_one_of_the_config() -> None:
    """Of the shipped configs, all defaults filled in."""
    from pullback.host.config import ExperimentConfig, check_parts, load_config
    from pullback.host.parts import load_parts

    load_parts()
    names = set()
    for name in ("pullback-nerf-tiny", "pullback-nerf"):
        config = load_config(f"configs/{name}.yaml", cli_args=["system.prompt_processor.prompt=x"], n_gpus=1)
        blocks = check_parts(ExperimentConfig, config)

        def walk(tree: Any, path: str = "") -> None:
            for key, value in tree.items():
                names.add(path + key)
                if isinstance(value, dict):
                    walk(value, f"{path}{key}.")

        walk(blocks)
    stages = {stage for stage, _ in out_of_memory._STAGES}
    named = {key for stage in stages for key in stage.keys}
    assert len(stages) == 10 and named <= names, named - names


def test_a_checkpoint_or_a_model_that_does_not_fit_into_memory_is_not_called_damaged(
    trained: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pullback.host.base import read_checkpoint
    from pullback.models.loading import load

    monkeypatch.setattr(torch, "load", lambda *_, **__: cpu())
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        read_checkpoint(str(folder(trained) / "ckpts" / "last.ckpt"), "resume")
    in_loading(monkeypatch, gpu)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        load(str(model))
