"""One run on several devices: the sample of one process from two and four, one sentence, one set of files."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from forked import ended, started, together
from pullback import processes
from pullback.errors import NonFiniteError, UserError
from pullback.evaluate.saved_run import SavedRun
from pullback.evaluate.studio import world
from pullback.host import launch, several
from pullback.host.explain import explain
from pullback.host.training.checkpoint import AtomicCheckpointIO
from tiny_pipeline import build

SMALL = [
    "data.width=16", "data.height=16", "data.eval_width=16", "data.eval_height=16", "data.n_test_views=1",
    "data.batch_size=2", "data.n_val_views=1", "trainer.limit_val_batches=0", "use_timestamp=false",
    "system.guidance.levels=4", "system.guidance.cycles=1", "system.guidance.fit_steps=10",
    "system.guidance.fit_rays=64", "system.guidance.sigma_min=0.5", "system.geometry.grid_size=[16,16,16]",
    "system.renderer.num_samples_per_ray=16", "system.geometry.isosurface_resolution=8",
    "checkpoint.every_n_train_steps=1000",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model"))


def arguments(model: Path, out: Path, *more: str) -> list[str]:
    return [
        "--config", "pullback-nerf-tiny.yaml", "--train", "trainer.accelerator=cpu", *SMALL,
        f"system.prompt_processor.pretrained_model_name_or_path={model}", "system.prompt_processor.prompt=a red cube",
        f"exp_root_dir={out}", "name=run", "tag=it", *more,
    ]  # fmt: skip


def renders(out: Path) -> torch.Tensor:
    """Four views of a run's end, in [-1, 1]."""
    return SavedRun(out / "run" / "it").render(world.look_at(torch.full((4,), 20.0), torch.arange(4) * 90.0), 32)


def runs(model: Path, out: Path, count: int, *more: str) -> torch.Tensor:
    """The renders of a run on so many devices."""
    statuses = ended(started(count, out / "said", lambda rank: launch.main(arguments(model, out, *more))))
    assert statuses == [0] * count, "".join(file.read_text() for file in sorted((out / "said").glob("*.err")))
    return renders(out)


def files(out: Path) -> list[str]:
    found = (str(path.relative_to(out / "run")) for path in (out / "run").rglob("*") if path.is_file())
    return sorted(re.sub(r"tfevents.*", "", path) for path in found)


@pytest.fixture(scope="module")
def alone(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    out = tmp_path_factory.mktemp("alone")
    assert launch.main(arguments(model, out)) == 0
    return out, renders(out)


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_the_sample_does_not_depend_on_the_number_of_devices(
    count: int, model: Path, alone: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    out, wanted = alone
    found = runs(model, tmp_path, count)
    assert wanted.std() > 0.05
    assert (found - wanted).abs().max() < 1e-5
    assert files(tmp_path) == files(out)
    said = [(tmp_path / "said" / f"{rank}.out").read_text() for rank in range(count)]
    assert f"on {count} devices" in said[0] and not any(said[1:])


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_a_run_goes_on_with_another_number_of_devices(
    count: int, model: Path, alone: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    runs(model, tmp_path / "half", 2, "trainer.max_steps=2")
    found = runs(model, tmp_path, count, f"resume={tmp_path}/half/run/it/ckpts/last.ckpt")
    assert (found - alone[1]).abs().max() < 1e-5


def failing(fault: Exception, at: int, rank: int, guilty: int) -> None:
    """Has one process fail in a step."""
    from pullback.adapters.systems.sampling import PullbackSystem

    whole = PullbackSystem.training_step

    def step(self: Any, batch: Any, batch_idx: int) -> None:
        if rank == guilty and self.true_global_step == at:
            raise fault
        whole(self, batch, batch_idx)

    PullbackSystem.training_step = step  # type: ignore[method-assign]


def terminated_while_it_saves() -> None:
    """Has this process get SIGTERM, as from the launcher when another has ended, while it writes its last step."""
    whole = AtomicCheckpointIO.write_copy

    def write(self: AtomicCheckpointIO, path: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        whole(self, path)

    AtomicCheckpointIO.write_copy = write  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("fault", "status", "guilty"),
    [(UserError("mend this"), 2, 0), (NonFiniteError("a NaN"), 1, 1)],
    ids=["the user's", "a NaN"],
)
def test_a_fault_of_one_process_ends_all_with_one_sentence(
    fault: Exception, status: int, guilty: int, model: Path, tmp_path: Path
) -> None:
    def act(rank: int) -> int:
        failing(fault, 2, rank, guilty)
        terminated_while_it_saves()
        return launch.main(arguments(model, tmp_path))

    assert ended(started(2, tmp_path / "said", act)) == [status] * 2
    said = "".join((tmp_path / "said" / f"{rank}.err").read_text() for rank in range(2))
    assert [line for line in said.splitlines() if "rror" in line] == [f"error: {fault}"], said
    assert "Traceback" not in said
    if guilty == 1:  # the first process has lost the other, and saves its last whole step
        checkpoint = tmp_path / "run" / "it" / "ckpts" / "last.ckpt"
        assert torch.load(checkpoint, weights_only=True)["global_step"] == 2
        assert f"resume={checkpoint}" in (tmp_path / "said" / "0.out").read_text()


def test_a_signal_to_one_process_saves_and_ends_all(model: Path, tmp_path: Path) -> None:
    pids = started(
        2, tmp_path / "said", lambda rank: launch.main(arguments(model, tmp_path, "system.guidance.levels=400"))
    )
    deadline = time.monotonic() + 60
    while "step " not in (tmp_path / "said" / "0.out").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    os.kill(pids[1], signal.SIGINT)
    assert ended(pids) == [130, 130]
    checkpoint = tmp_path / "run" / "it" / "ckpts" / "last.ckpt"
    assert torch.load(checkpoint, weights_only=True)["global_step"] > 0
    assert f"resume={checkpoint}" in (tmp_path / "said" / "0.out").read_text()
    assert "rror" not in "".join((tmp_path / "said" / f"{rank}.err").read_text() for rank in range(2))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["trainer.devices=0"], "`trainer.devices` must be a number of devices"),
        (["trainer.devices=auto"], "`trainer.devices`"),
        (["trainer.devices=2", "trainer.strategy=fsdp"], "`trainer.strategy` must be ddp"),
        (["trainer.devices=3", "--gpu", "0,1"], "`trainer.devices` asks for 3 devices and --gpu asks for 2 devices"),
        (["--gpu", "0,1"], "--gpu names 2 GPUs, but none can be used"),
        (["trainer.devices=2", "--view"], "--view shows a run on one device, not 2"),
        (["trainer.num_nodes=2"], "`trainer.num_nodes` must be 1"),
    ],
)
def test_what_cannot_be(words: list[str], reason: str, model: Path, tmp_path: Path, capsys: Any) -> None:
    assert launch.main(arguments(model, tmp_path, *words)) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_distillation_takes_one_device(tmp_path: Path, capsys: Any) -> None:
    words = arguments(tmp_path, tmp_path, "trainer.devices=2", "system_type=dreamfusion-system")
    assert launch.main(words) == 2
    assert "one device, not 2" in capsys.readouterr().err


def test_the_launcher_ends_all_with_the_status_of_the_first_that_fails(tmp_path: Path) -> None:
    program = "import os, sys, time; time.sleep(0 if os.environ['RANK'] == '1' else 60); sys.exit(7)"
    began = time.monotonic()
    assert several.start([sys.executable, "-c", program], 2) == 7
    assert time.monotonic() - began < 50


@pytest.mark.parametrize("rank", [0, 1])
def test_who_is_left_tells_where_the_launcher_is_gone(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    where = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(launcher.port), "WORLD_SIZE": "2", "RANK": f"{rank}"}
    for name, value in {**where, "TORCHELASTIC_USE_AGENT_STORE": "True"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # that of all but the first is closed
    one = several.Together()
    assert one.tells(130) == (rank == 0, 130)
    del launcher
    assert one.tells(1) == (True, 1)
    assert one.tells(130) == (rank == 0, 130)


def test_a_process_that_is_gone_is_one_sentence(tmp_path: Path) -> None:
    def act(rank: int) -> int:
        dist.init_process_group("gloo", rank=rank, world_size=2)
        if rank:
            os.kill(os.getpid(), signal.SIGKILL)
        with pytest.raises(RuntimeError) as caught:
            processes.gathered(torch.ones(1), 2)
        (tmp_path / "sentence").write_text(str(explain(caught.value)))
        return 0

    assert ended(started(2, tmp_path / "said", act)) == [0, -signal.SIGKILL]
    assert (tmp_path / "sentence").read_text().startswith("('another process of this run has ended; ")


def test_gradients_are_those_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    unused = torch.nn.Parameter(torch.zeros(2, dtype=torch.double))
    x, slope = torch.randn(7, 3, dtype=torch.double), torch.randn(7, 2, dtype=torch.double)
    parameters = [*net.parameters(), unused]

    def of_parameters(rank: int) -> list[torch.Tensor]:
        whole = processes.of_parameters(net(x[processes.own(7)]), 7, parameters)
        found = torch.autograd.grad(whole, parameters, slope, allow_unused=True)
        assert found[-1] is None
        return [whole.detach(), *found[:-1]]

    def of_rows(rank: int) -> list[torch.Tensor]:
        inputs = x.clone().requires_grad_()
        whole = processes.of_rows(net, inputs)
        return [whole.detach(), *torch.autograd.grad(whole, inputs, slope)]

    y, inputs = net(x), x.clone().requires_grad_()
    wanted = {
        of_parameters: [y, *torch.autograd.grad(y, parameters[:-1], slope)],
        of_rows: [y, *torch.autograd.grad(net(inputs), inputs, slope)],
    }
    for act, values in wanted.items():
        for found in together(3, tmp_path / act.__name__, act):
            assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(found, values, strict=True))
