"""A worker: claims units one after the other, and makes each in this process; models are loaded once."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError, first_line
from .claims import FAILED, HELD, RELEASED, Claim, Claims, hopeless, stamp, version
from .folder import EXPIRE, Folder
from .making import Outcome, make
from .plan import Unit
from .process import Stop


@dataclass(frozen=True)
class Job:
    """What a worker is told; plain values, so that it can be sent to another machine.

    Attributes:
        out: The sweep's folder.
        threads: Of a run on a CPU.
        retries: How often a unit that fails is tried again.
        expire: See `folder.EXPIRE`.
        part: "i/n" for a shard, or None.
        version: The driver's, see `claims.version`; None for any.
        cwd: The working folder, in which relative paths of configs lie.
        plan: The name of the plan whose units are made, or None for all of the folder.
        making: Makes a unit, or goes on with it; to be found by its name on every machine.
    """

    out: str
    threads: int = 1
    retries: int = 2
    expire: float = EXPIRE
    part: str | None = None
    version: str | None = None
    cwd: str = "."
    plan: str | None = None
    making: Callable[[Folder, Unit], Outcome] = make


def work(job: Job) -> str | None:
    """Makes units until none is left that this worker could make.

    Args:
        job: The worker's orders.

    Returns:
        Why the worker refuses to make any more, in one sentence; None where it has done its part.
    """
    import torch

    from ..models import keeping

    try:
        if os.path.isdir(job.cwd):
            os.chdir(job.cwd)
        torch.set_num_threads(job.threads)
        folder = Folder(Path(job.out), job.expire)
        folder.check()
        _check_version(job, folder.claims)
        with Stop() as stop, keeping():
            try:
                _loop(job, folder, stop)
            except OSError as error:  # of a claim's file, or a result's
                folder.check()
                what = error.filename or "a file of the sweep"
                return f"cannot use {what}: {error.strerror or first_line(error)}; the same command goes on"
    except UserError as error:
        return str(error)
    return None


def _check_version(job: Job, claims: Claims) -> None:
    """Raises UserError where the driver, or a worker that is at work, has another version of the project."""
    mine = claims.me["version"]
    others = [] if job.version is None else [("the sweep", job.version)]
    for unit, number in claims.numbers().items():
        claim = claims.read(unit, number)
        if claim["state"] == HELD and claim.get("version", mine) != mine and claims.alive(unit, number, claim):
            others.append((f"a worker on {claim['host']}", claim["version"]))
    for who, theirs in others:
        if theirs != mine:
            raise UserError(
                f"the worker on {claims.me['host']} has {mine}, and {who} has {theirs}; install one version everywhere"
            )


def _loop(job: Job, folder: Folder, stop: Stop) -> None:
    claims = folder.claims
    idle: float | None = None
    while not stop.asked:
        todo = {unit.name: unit for unit in folder.units(job.part, job.plan)}
        for name in folder.ended():
            todo.pop(name, None)
        if not todo:
            return
        claim = _claim(job, folder, claims, list(todo.values()))
        if claim is None:  # others have them all; one of these may die
            idle = time.monotonic() if idle is None else idle
            if time.monotonic() - idle > 1.5 * job.expire:
                return
            time.sleep(min(1.0, job.expire / 10))
            continue
        idle = None
        _make(job, folder, claim, todo[claim.unit], stop)


def _claim(job: Job, folder: Folder, claims: Claims, todo: list[Unit]) -> Claim | None:
    """Claims the first unit that nobody has; writes the results of those that are given up."""
    numbers = claims.numbers()
    for unit in todo:
        number, checkpoint = numbers.get(unit.name, 0), None
        if number:
            if claims.alive(unit.name, number, newest := claims.read(unit.name, number)):
                continue
            checkpoint = stamp(folder.checkpoint(unit))
            history = claims.history(unit.name, number)
            if reason := hopeless(history, checkpoint, job.retries):
                folder.write(unit, {"status": "failed", "reason": reason, **_row(newest, history)})
                continue
        claim = claims.take(unit.name, number + 1, checkpoint)
        if claim is not None and folder.result(unit).exists():  # its owner ended it since the list was made
            claim.say(RELEASED)
            continue
        if claim is not None:
            return claim
    return None


def _make(job: Job, folder: Folder, claim: Claim, unit: Unit, stop: Stop) -> None:
    with claim.beating():
        try:
            with stop.during():
                outcome = job.making(folder, unit)
        except KeyboardInterrupt:
            outcome = Outcome({}, stopped=True)
        except SystemExit:  # a scheduler's handler of signals, which has the job begin again
            claim.say(RELEASED)
            raise
        except Exception as error:  # the rest goes on
            if not isinstance(error, (UserError, OSError)):
                traceback.print_exc()
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            outcome = Outcome({}, kind + first_line(error))
    if claim.lost():
        return
    if outcome.stopped:
        stop.asked = True
        claim.say(RELEASED)
        return
    try:
        if outcome.reason is not None:
            folder.check()  # a full disk is no fault of the unit's
            claim.say(FAILED, outcome.reason)
            return  # it is tried again, or given up, as any unit that nobody has
        history = claim.claims.history(unit.name, claim.number)
        folder.write(unit, {"status": "done", **outcome.values, **_row(claim.content, history)})
    except (UserError, OSError):
        with contextlib.suppress(OSError):  # else it is free when this process has ended
            claim.say(RELEASED)
        raise


def _row(claim: dict[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """Who made a unit, and at which attempt."""
    return {
        "attempts": len(history), "host": claim.get("host"), "version": claim.get("version") or version(),
        "ended": round(time.time(), 1),
    }  # fmt: skip
