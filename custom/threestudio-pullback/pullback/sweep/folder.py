"""The folder of a sweep: what is asked for, and one file for the result of each unit; no file is of the whole."""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..output import whole
from .claims import AGAIN, Claims, entries
from .plan import Plan, Unit, Variant, shard

EXPIRE = 120.0
"""Seconds after which a claim without a sign of life is free. A shared disk may show a sign a minute late."""
APART = 60.0
"""Seconds that a machine's clock may differ from the folder's before it is said."""


class Folder:
    """OUT: plans/, runs/, claims/ and results/.

    Args:
        out: The folder.
        expire: See `EXPIRE`.
    """

    def __init__(self, out: Path, expire: float = EXPIRE) -> None:
        self.out, self.expire = out.absolute(), expire
        self._read: dict[str, tuple[Any, list[Unit]]] = {}
        self.variants: dict[str, Variant] = {}

    @property
    def claims(self) -> Claims:
        """Its claims, seen anew."""
        return Claims(self.out / "claims", self.expire)

    def check(self) -> float:
        """Writes to the folder once, and makes it.

        Returns:
            Seconds that this machine's clock is ahead of the folder's.

        Raises:
            UserError: It cannot be written to, or is full.
        """
        file = self.out / f".{uuid.uuid4().hex}"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            try:
                file.write_bytes(bytes(2**16))
                with file.open("rb+") as stream:
                    os.fsync(stream.fileno())  # a quota or a network's disk may refuse the data only here
                return time.time() - file.stat().st_mtime
            finally:
                with contextlib.suppress(OSError):
                    file.unlink()
        except OSError as error:
            raise UserError(
                f"cannot write to the sweep's folder {self.out}: {error.strerror}; free space, or choose another by "
                "--out; the same command then goes on"
            ) from error

    def propose(self, plan: Plan) -> None:
        """Counts what a command asks for among the units of this object; nothing is written."""
        self._read[plan.name] = plan, list(plan.units())
        self.variants |= {variant.name: variant for variant in plan.variants}

    def add(self, plan: Plan) -> None:
        """Adds what a command asks for; what is there stays."""
        file = self.out / "plans" / plan.name
        if not file.exists():
            self.save(file, plan.text())

    def units(self, part: str | None = None, plan: str | None = None) -> list[Unit]:
        """All units of all plans, each once; of those that are proposed too.

        Args:
            part: For those of a shard alone, see `plan.shard`.
            plan: For those of one plan alone, its name.

        Raises:
            UserError: The folder has no plan, or one is damaged.
        """
        found: dict[str, Unit] = {}
        there = {entry.name for entry in entries(self.out / "plans") if entry.name.endswith(".json")}
        files = [name for name in sorted(there | self._read.keys()) if plan in (None, name)]
        if not files:
            raise UserError(f"{self.out} is no folder of a sweep; name one that has begun, or begin it with --prompts")
        for name in files:
            if name not in self._read:
                self._read[name] = self._plan(self.out / "plans" / name)
            found |= {unit.name: unit for unit in self._read[name][1]}
        units = list(found.values())
        return units if part is None else shard(units, part)

    def _plan(self, file: Path) -> tuple[Plan, list[Unit]]:
        try:
            plan = Plan.read(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged and no plan; remove it, and give its command again") from error
        self.variants |= {variant.name: variant for variant in plan.variants}
        return plan, list(plan.units())

    def run(self, unit: Unit) -> Path:
        """The folder of a unit's run."""
        return self.out / "runs" / unit.variant / unit.tag

    def log(self, unit: Unit) -> Path:
        """What a unit's run prints."""
        return self.out / "runs" / unit.variant / f"{unit.tag}.log"

    def checkpoint(self, unit: Unit) -> Path:
        """The last checkpoint of a unit's run."""
        return self.run(unit) / "ckpts" / "last.ckpt"

    def config(self, unit: Unit) -> Path:
        """The config of a unit's run, written where it is not there."""
        file = self.out / "configs" / f"{unit.variant}.yaml"
        if not file.exists():
            self.save(file, self.variants[unit.variant].config)
        return file

    def result(self, unit: Unit) -> Path:
        """The file of a unit's result."""
        return self.out / "results" / f"{unit.name}.json"

    def ended(self) -> set[str]:
        """The names of the units that have a result."""
        return {
            f"{variant.name}/{entry.name[:-5]}"
            for variant in entries(self.out / "results")
            for entry in entries(Path(variant.path))
            if entry.name.endswith(".json")
        }

    def write(self, unit: Unit, row: dict[str, Any]) -> None:
        """Writes a unit's result, whole."""
        file = self.result(unit)
        file.parent.mkdir(parents=True, exist_ok=True)
        whole.write(file, json.dumps({"prompt": unit.prompt, "seed": unit.seed, **row}, indent=1) + "\n")

    def rows(self, units: Iterable[Unit]) -> list[tuple[Unit, dict[str, Any]]]:
        """The units that have a result, with it.

        Raises:
            UserError: A result is damaged.
        """
        ended, found = self.ended(), []
        for unit in units:
            if unit.name in ended:
                try:
                    row = json.loads(self.result(unit).read_text(encoding="utf-8"))
                    found.append((unit, {"status": str(row["status"]), **row}))
                except FileNotFoundError:  # it is tried again
                    continue
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(f"{self.result(unit)} is damaged; remove it, and its unit is made again") from error
        return found

    def retry_failed(self, units: Iterable[Unit]) -> int:
        """Has those of the units that failed be made again; returns how many there are."""
        claims, count = self.claims, 0
        numbers = claims.numbers()
        for unit, row in self.rows(units):
            if row["status"] != "failed":
                continue
            claim = claims.take(unit.name, numbers.get(unit.name, 0) + 1, None)
            if claim is not None:
                claim.say(AGAIN)
                self.result(unit).unlink(missing_ok=True)
                count += 1
        return count

    def save(self, file: Path, text: str) -> None:
        """Writes a file of the folder that other processes may write at the same time, with the same text."""
        file.parent.mkdir(exist_ok=True)
        mine = file.with_name(f".{uuid.uuid4().hex}")
        whole.write(mine, text)
        os.replace(mine, file)
