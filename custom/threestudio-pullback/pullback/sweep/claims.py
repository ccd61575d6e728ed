"""Who makes a unit: numbered files on a shared folder, each created by exactly one process.

The newest file of a unit says who has it. Nothing is deleted or renamed, so that two processes that both find a claim
expired cannot both take it: the next number can be created once. The owner touches its file; a claim expires when its
time has not changed for a while by the clock of the process that watches, so clocks of machines may differ. On one
machine a claim also expires when its process is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..output import whole
from ..version import __version__, commit

HELD, RELEASED, FAILED, AGAIN = "held", "released", "failed", "again"
"""States of a claim: its unit is being made; may be made by another; could not be made; all before counts no more."""


def this_process() -> dict[str, Any]:
    """What a claim says of its owner: the machine since it was started, the process, and when that began."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "machine": _machine(), "pid": pid, "born": _born(pid), "version": version()}


def version() -> str:
    """What two workers must agree in to make the same bytes."""
    import torch

    return f"threestudio-pullback {__version__}, commit {commit()}, PyTorch {torch.__version__}"


@dataclass
class Claims:
    """The claims of a folder, as one process sees them.

    Args:
        folder: Of the claims.
        expire: Seconds without a sign of life after which a claim is free.
    """

    folder: Path
    expire: float
    me: dict[str, Any] = field(default_factory=this_process)
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)

    def numbers(self) -> dict[str, int]:
        """Unit → the number of its newest claim."""
        newest: dict[str, int] = {}
        for variant in entries(self.folder):
            for entry in entries(Path(variant.path)):
                tag, _, number = entry.name.rpartition(".")
                if number.isdigit():
                    unit = f"{variant.name}/{tag}"
                    newest[unit] = max(newest.get(unit, 0), int(number))
        return newest

    def read(self, unit: str, number: int) -> dict[str, Any]:
        """A claim's content; a claim that is empty, as one of a process killed at its first byte, is held by nobody."""
        try:
            content = json.loads(self.path(unit, number).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = None
        return content if isinstance(content, dict) else {"state": HELD}

    def path(self, unit: str, number: int) -> Path:
        """The file of a claim."""
        return self.folder / f"{unit}.{number}"

    def alive(self, unit: str, number: int, claim: dict[str, Any]) -> bool:
        """Whether a claim is held by a process that still gives signs of life."""
        if claim.get("state") != HELD:
            return False
        if claim.get("machine") == self.me["machine"]:
            return _born(int(claim["pid"])) == claim["born"]
        path = str(self.path(unit, number))
        try:
            touched = os.stat(path).st_mtime_ns
        except OSError:
            return False
        now = time.monotonic()
        before, since = self._seen.get(path, (None, now))
        if before != touched:
            since = now
        self._seen[path] = touched, since
        return now - since < self.expire

    def take(self, unit: str, number: int, checkpoint: int | None) -> Claim | None:
        """Creates the claim of this number; None where another process has.

        Args:
            unit: The unit's name.
            number: One above the newest.
            checkpoint: A number that changes when the unit's run saves a checkpoint; None before its first.
        """
        path = self.path(unit, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"state": HELD, "checkpoint": checkpoint, **self.me}
        try:
            with path.open("x", encoding="utf-8") as file:
                json.dump(content, file)
        except FileExistsError:
            return None
        return Claim(self, unit, number, content)

    def history(self, unit: str, number: int) -> list[dict[str, Any]]:
        """The contents of a unit's claims up to a number, since the last one that says AGAIN."""
        found: list[dict[str, Any]] = []
        for n in range(number, 0, -1):
            claim = self.read(unit, n)
            if claim["state"] == AGAIN:
                break
            found.insert(0, claim)
        return found


@dataclass
class Claim:
    """A claim of this process."""

    claims: Claims
    unit: str
    number: int
    content: dict[str, Any]

    def say(self, state: str, reason: str = "") -> None:
        """Sets the state."""
        self.content |= {"state": state, "reason": reason}
        whole.write(self.claims.path(self.unit, self.number), json.dumps(self.content))

    def lost(self) -> bool:
        """Whether another process has taken the unit, since this one gave no sign of life."""
        return self.claims.path(self.unit, self.number + 1).exists()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """A context in which the claim's file is touched again and again; a process that has lost its claim ends."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self.claims.expire / 6):
                if self.lost():  # it slept, and another process writes to the run's folder now
                    os._exit(75)
                with contextlib.suppress(OSError):
                    os.utime(self.claims.path(self.unit, self.number))

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def hopeless(history: list[dict[str, Any]], checkpoint: int | None, retries: int) -> str | None:
    """Why a unit is not made again: the reason of its last failure, or that its process died again and again.

    A process that died counts where its run saved no checkpoint since the one before died; one that was stopped in good
    order does not count.

    Args:
        history: The unit's claims.
        checkpoint: What `stamp` says of the run's last checkpoint.
        retries: How often a unit is tried again.
    """
    failures = [claim for claim in history if claim["state"] == FAILED]
    if len(failures) > retries:
        return str(failures[-1].get("reason") or "no reason given")
    deaths = 0
    for claim in reversed(history):
        if claim["state"] != HELD or claim.get("checkpoint") != checkpoint:
            break
        deaths += 1
    if deaths > retries:
        return f"its process was killed {deaths} times at the same place, perhaps for its memory"
    return None


def stamp(file: Path) -> int | None:
    """A number that changes when a file is written anew; None where it is not there."""
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


def _machine() -> str:
    """The machine since it was started, and its space of process numbers, which containers do not share."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"{uuid.getnode()} {uuid.uuid4()}"  # not known: nobody else is on it


def _born(pid: int) -> str:
    """When a process began, in the kernel's ticks; "" where it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where it is not there."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []
