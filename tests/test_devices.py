"""The device of a run: parts and trainer agree on it, and the run names it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import host_toy
import pytest
import torch
from pullback.errors import UserError
from pullback.host import base, devices, launch


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = base._chosen[:]
    yield
    base._chosen[:] = before


@pytest.fixture
def config(tmp_path: Path) -> str:
    (tmp_path / "config.yaml").write_text(host_toy.CONFIG.format(root=tmp_path / "out"))
    return str(tmp_path / "config.yaml")


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Mac with Apple silicon, as far as PyTorch and Lightning ask."""
    monkeypatch.setattr(torch._C, "_mps_is_available", lambda: True)
    monkeypatch.setattr(platform, "processor", lambda: "arm")
    from lightning_fabric.accelerators.mps import MPSAccelerator

    asked: list[Any] = [torch.backends.mps.is_available, MPSAccelerator.is_available]  # both remember their answer
    for ask in asked:
        ask.cache_clear()
    yield
    monkeypatch.undo()
    for ask in asked:
        ask.cache_clear()


def test_a_run_on_apple_silicon_takes_the_cpu_and_says_so(apple: None, config: str, capsys: Any) -> None:
    from pytorch_lightning.accelerators import MPSAccelerator

    assert MPSAccelerator.is_available()  # so that Lightning would take it
    assert launch.main(["--config", config, "--train", "system.prompt=x", "trainer.max_steps=1"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert " on the CPU (" in first and "not made for Apple's GPU; files go to" in first
    assert base.get_device() == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_the_first_line_names_the_cpu_and_its_threads(config: str, capsys: Any) -> None:
    threads = torch.get_num_threads()
    try:
        for number, words in ((1, "on the CPU (1 thread); files"), (2, "on the CPU (2 threads); files")):
            torch.set_num_threads(number)
            assert launch.main(["--config", config, "--train", "system.prompt=x", "trainer.max_steps=1"]) == 0
            assert words in capsys.readouterr().out.splitlines()[0]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
@pytest.mark.parametrize(
    ("accelerator", "words"),
    [
        ("gpu", ["no CUDA device is seen", "auto or cpu"]),
        ("cuda", ["no CUDA device is seen"]),
        ("mps", ["'mps'", "auto, gpu or cpu"]),
        ("tpu", ["'tpu'", "auto, gpu or cpu"]),
    ],
)
def test_an_accelerator_that_cannot_be_had(accelerator: str, words: list[str], config: str, capsys: Any) -> None:
    train = ["--config", config, "--train", "system.prompt=x", f"trainer.accelerator={accelerator}"]
    assert launch.main(train) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and all(word in lines[0] for word in ["`trainer.accelerator`", *words])
    assert not (Path(config).parent / "out").exists()


def test_gpu_by_name_on_apple_silicon_is_refused(apple: None, config: str, capsys: Any) -> None:
    """Lightning's "gpu" would be Apple's there, where the parts are not."""
    if torch.cuda.is_available():
        pytest.skip("has a CUDA device")
    assert launch.main(["--config", config, "--train", "system.prompt=x", "trainer.accelerator=gpu"]) == 2
    assert "no CUDA device is seen" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_a_cuda_device_that_does_not_compute_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a GPU is only claimed, and the first sum on it raises what PyTorch raises without one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device, name = devices.choose_device("auto")
    assert device == torch.device("cpu") == base.get_device()
    assert name.startswith("the CPU (") and ", since the CUDA device does not compute (" in name
    with pytest.raises(UserError, match="does not compute"):
        devices.choose_device("gpu")


def test_parts_and_trainer_take_the_cuda_device(config: str, capsys: Any) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    assert launch.main(["--config", config, "--train", "system.prompt=x", "trainer.max_steps=1"]) == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert f"on cuda:0 ({torch.cuda.get_device_name(0)})" in line
