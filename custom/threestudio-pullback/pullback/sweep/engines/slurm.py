"""`--on slurm`: an array of Slurm jobs, by submitit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import UserError, first_line
from ..worker import Job, work
from . import KILLED


@dataclass(frozen=True)
class Options:
    """What --with sets.

    Attributes:
        partition: Of Slurm; "" for the default one.
        account: Of Slurm; "" for the default one.
        minutes: The time limit of a job. A job that reaches it, or is preempted, saves its step and is queued again.
        gpus: Of a worker.
        memory: Of a worker, in GB.
        executor: slurm; local runs the same jobs as processes of this machine, for a try.
    """

    partition: str = ""
    account: str = ""
    minutes: int = 1440
    gpus: int = 0
    memory: int = 16
    executor: str = "slurm"


class Task:
    """What a job calls; submitit calls `checkpoint` where Slurm is about to end it, and queues it again."""

    def __call__(self, job: Job) -> str | None:
        """Works."""
        return work(job)

    def checkpoint(self, job: Job) -> Any:
        """The job that goes on: the same one, since the folder says what is left."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


class Engine:
    """Each start is an array of jobs, of which as many run at a time as there are workers."""

    Options = Options

    def __init__(self, job: Job, options: Options, workers: int | None) -> None:
        import submitit

        if workers is None:
            raise UserError("--workers is missing: Slurm does not say how many jobs you may have")
        if options.executor not in ("slurm", "local"):
            raise UserError(f"--with executor is {options.executor!r}, but must be slurm or local")
        self.job, self.workers = job, workers
        try:
            self._executor = submitit.AutoExecutor(folder=str(Path(job.out) / "slurm"), cluster=options.executor)
        except (RuntimeError, OSError) as error:
            raise UserError(f"there is no Slurm on this machine: {first_line(error)}; use --on local or ray") from error
        named = {"slurm_partition": options.partition, "slurm_account": options.account}
        self._executor.update_parameters(
            name="pullback-sweep", timeout_min=options.minutes, cpus_per_task=job.threads, nodes=1, tasks_per_node=1,
            gpus_per_node=options.gpus, mem_gb=options.memory, slurm_array_parallelism=workers,
            **{key: value for key, value in named.items() if value},
        )  # fmt: skip
        self._jobs: list[Any] = []

    def start(self, count: int) -> None:
        """Submits an array."""
        try:
            self._jobs += self._executor.map_array(Task(), [self.job] * count)
        except Exception as error:  # whatever sbatch says
            raise UserError(f"the jobs are not taken by Slurm: {first_line(error)}; see --with") from error

    def alive(self) -> int:
        """How many jobs wait or run."""
        return sum(not job.done() for job in self._jobs)

    def ended(self) -> list[str | None]:
        """What they said."""
        over = [job for job in self._jobs if job.done()]
        self._jobs = [job for job in self._jobs if job not in over]
        return [_said(job) for job in over]

    def stop(self) -> None:
        """Cancels them: Slurm sends SIGTERM, and SIGKILL after a while."""
        for job in self._jobs:
            job.cancel()

    def close(self) -> None:
        """Cancels those that are left."""
        self.stop()


def _said(job: Any) -> str | None:
    try:
        return job.result()
    except Exception as error:  # submitit's of several kinds: there is no result, or a job's own traceback
        return KILLED if "has not produced any output" in str(error) or not job.paths.result_pickle.exists() else (
            f"a job has failed: {first_line(error)}; see {job.paths.stderr}"
        )  # fmt: skip
