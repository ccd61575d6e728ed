"""One run of launch.py for an evaluation, and what its logs say."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from ..host.explain import LOG_ENDS
from ..sweep.making import STOPPED, launched
from ..sweep.process import last_error

KILLED = "killed"
"""How the reason of a run begins that something outside of it ended."""
UNLOGGED = "its log could not be written"
"""How the reason of a run begins whose course is not known."""


@dataclass(frozen=True)
class Trial:
    """Where and how one run is made.

    Attributes:
        out: The evaluation's folder.
        method: The name of the method, and of its folder below OUT/runs.
        tag: The name of the run's folder.
        overrides: key=value beyond prompt, seed and folder.
        threestudio: A checkout of threestudio; None for the bundled host.
        config: The config; None for OUT/configs/METHOD.yaml.
        imports: Modules that register parts of a user.
    """

    out: Path
    method: str
    prompt: str
    seed: int
    tag: str
    overrides: tuple[str, ...] = ()
    threestudio: Path | None = None
    config: Path | None = None
    imports: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """OUT/runs/METHOD/TAG."""
        return self.out / "runs" / self.method / self.tag

    @property
    def log(self) -> Path:
        """The run's output on the terminal."""
        return self.out / "runs" / self.method / f"{self.tag}.log"

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint; it exists from the run's first save on."""
        return self.folder / "ckpts" / "last.ckpt"

    def command(self) -> list[str]:
        """The command line of `pullback launch`; it resumes from the last checkpoint, where there is one."""
        command = [sys.executable, "-m", "pullback", "launch"]
        if self.threestudio is not None:
            command += ["--threestudio", str(self.threestudio)]
        config = self.config or self.out / "configs" / f"{self.method}.yaml"
        command += [word for name in self.imports for word in ("--import", name)]
        command += ["--config", str(config), "--train"]
        command += [
            f"system.prompt_processor.prompt={self.prompt}", f"seed={self.seed}", "use_timestamp=false",
            f"exp_root_dir={self.out / 'runs'}", f"name={self.method}", f"tag={self.tag}", *self.overrides,
        ]  # fmt: skip
        return [*command, f"resume={self.checkpoint}"] if self.checkpoint.exists() else command

    def run(self, threads: int) -> tuple[str | None, int]:
        """Makes the run in this process; in threestudio, in one of its own.

        Returns:
            The reason why it failed, or None; and its peak memory in MB, an upper bound.

        Raises:
            KeyboardInterrupt: It was stopped, and has saved its last whole step.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        before = self.log.stat().st_size if self.log.exists() else 0
        if self.threestudio is None:
            status, memory = self._in_host(threads)
        else:
            status, memory = _run_logged(self.command(), self.log, threads, self.threestudio)
        if status < 0:  # it could not say a word
            return f"{KILLED} by {signal.Signals(-status).name}, perhaps for its memory", memory
        if not status and (LOG_ENDS % "tb_logs").encode() in self.log.read_bytes()[before:]:
            shutil.rmtree(self.folder)  # what it cost is not known, and going on from its end would not tell
            return f"{UNLOGGED}, perhaps for a full disk", memory
        return (last_error(self.log, before) if status else None), memory

    def _in_host(self, threads: int) -> tuple[int, int]:
        _forget_peak()  # of the run before this one in the process
        torch.set_num_threads(threads)
        status, _ = launched(self.command()[4:], self.log)
        if status in STOPPED:
            raise KeyboardInterrupt
        return status, _peak()


def _forget_peak() -> None:
    """Has the kernel note this process's peak memory anew from here on, where it can."""
    gc.collect()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """This process's peak memory in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024)
    except (OSError, StopIteration):
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _run_logged(command: list[str], log: Path, threads: int, cwd: Path) -> tuple[int, int]:
    """Runs a command with its output in the log; returns its exit status, and its peak memory in MB (an upper bound).

    An interruption ends the command by SIGTERM and waits for it: launch.py then saves its last whole step.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with log.open("a") as stream:
        process = subprocess.Popen(command, cwd=cwd, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, round(usage.ru_maxrss / 1024)


@dataclass(frozen=True)
class Course:
    """The course of a run.

    Attributes:
        steps: Training steps, ascending.
        nfe: Denoiser calls up to each of them.
        seconds: Seconds of training up to each of them, on the wall, without interruptions.
    """

    steps: list[int]
    nfe: list[float]
    seconds: list[float]

    def at(self, step: int) -> tuple[float, float]:
        """Denoiser calls and seconds up to a step."""
        behind = max((i for i, s in enumerate(self.steps) if s <= step), default=0)
        return self.nfe[behind], self.seconds[behind]


def read_course(folder: Path, calls_per_step: float) -> Course:
    """Reads the course from the TensorBoard logs of a run, which threestudio and the host write alike.

    Args:
        folder: The run's folder.
        calls_per_step: Denoiser calls of a step, for runs that do not log `nfe`, as threestudio's own.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    steps: dict[int, tuple[float | None, float]] = {}
    spent = 0.0
    for version in sorted(folder.glob("tb_logs/version_*"), key=lambda p: int(re.sub(r"\D", "", p.name) or 0)):
        reader = EventAccumulator(str(version), {"scalars": 0}).Reload()
        tags = reader.Tags()["scalars"]
        calls = {e.step: e.value for tag in tags if tag.split("/")[-1] == "nfe" for e in reader.Scalars(tag)}
        times = {e.step: e.wall_time for tag in tags if tag != "epoch" for e in reader.Scalars(tag)}
        if not times:
            continue
        ordered = sorted(times)
        # the logs lack the duration of the first step; it counts as long as the second
        first = times[ordered[1]] - times[ordered[0]] if len(ordered) > 1 else 0.0
        start = times[ordered[0]] - first
        for step in ordered:
            steps[step + 1] = calls.get(step), spent + times[step] - start
        spent += times[ordered[-1]] - start
    # a run that was killed may have written half of its last step
    counted = {s: (n, seconds) for s, (n, seconds) in steps.items() if n is not None}
    if not counted:
        counted = {s: (s * calls_per_step, seconds) for s, (_, seconds) in steps.items()}
    order = sorted(counted)
    return Course(order, [counted[s][0] for s in order], [counted[s][1] for s in order])
