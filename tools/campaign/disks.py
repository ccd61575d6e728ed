"""Disks that refuse at a random byte of a file of each kind: nothing is half written, and the run can go on.

Three ways: a tmpfs without space, a btrfs with a full quota, and a limit of the length of a file (EFBIG), which alone
cuts at any byte; the other two cut at a page. Those mount, which takes root, and btrfs-progs.
"""

from __future__ import annotations

import functools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import kills, runs
from .results import Results, Row, nameless, workplace

PAGE = 4096
# command: endings of the files that it writes
LAUNCHED = {
    "nerf": ["cmd.txt", "raw.yaml", "parsed.yaml", ".ckpt", "last.ckpt", "-val.png", "-test/1.png", ".mp4", "-grid.png",
             "metrics.csv", "events.out", ".tmp"],
    "panorama": ["panorama.png", "cubemap.png", "up.png", "panorama.mp4", "panorama.html"],
    "image": ["-test/0.png", ".ckpt"],
}  # fmt: skip
EXPORTED = {"glb": ["model.glb"], "obj-mtl": ["model.obj", "model.mtl", ".jpg"], "ply": ["model.ply"]}
OPTIONAL = {"metrics.csv": "ends here: ", "events.out": "ends here: ", ".tmp": "are not cached: "}
"""Logs and a cache of embeddings: one that cannot be written is a warning with these words, and the run goes on."""
COMPARED = ["compare.json", "runs.csv", "table.md", "sheet.png", "report.html"]
BY_WORKERS = [".webp", "-0.json", "-0.1"]
"""What a comparison's worker writes beside the run: turntable, result and claim."""


class Disk:
    """A folder that can be made to refuse; the base has no limit of its own but the process's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def refuse(self, left: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))

    def relent(self) -> None:
        """From outside, when the process has ended."""

    def end(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


class Full(Disk):
    """A tmpfs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "campaign", str(folder)], check=True)

    def refuse(self, left: int) -> None:
        space = os.statvfs(self.folder)
        with open(self.folder / "ballast", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, space.f_bavail * space.f_frsize - left // PAGE * PAGE))

    def relent(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def end(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


class Quota(Disk):
    """A volume in a btrfs in a file, which may hold so much; quotas of btrfs need no option of the kernel's.

    It counts what it may need to write itself, so that it refuses small files when they are opened.
    """

    def __init__(self, folder: Path) -> None:
        self.mount = folder.with_suffix(".mount")
        self.mount.mkdir(parents=True, exist_ok=True)
        image = folder.with_suffix(".img")
        image.unlink(missing_ok=True)
        image.touch()
        os.truncate(image, 256 << 20)
        self._call("mkfs.btrfs", "-q", str(image))
        self._call("mount", "-o", "loop", str(image), str(self.mount))
        self._call("btrfs", "subvolume", "create", str(self.mount / "volume"))
        self._call("btrfs", "quota", "enable", str(self.mount))
        self._call("btrfs", "quota", "rescan", "-w", str(self.mount))
        super().__init__(self.mount / "volume")

    def refuse(self, left: int) -> None:
        shown = self._call("btrfs", "qgroup", "show", "--sync", "--raw", "-r", "-f", str(self.folder))
        held = int(shown.splitlines()[-1].split()[1])
        self._limit(str(held + left))

    def relent(self) -> None:
        self._limit("none")

    def _limit(self, most: str) -> None:
        """By way of the volume above, which has no limit; 256 is the first volume's number."""
        self._call("btrfs", "qgroup", "limit", most, "0/256", str(self.mount))

    def _call(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        subprocess.run(["umount", "-l", str(self.mount)], check=True)
        self.mount.with_suffix(".img").unlink()


WAYS: dict[str, type[Disk]] = {"limit": Disk, "full": Full, "quota": Quota}


def run(results: Results, args: Any) -> None:
    runs.preload()
    with workplace(args.work, "disks") as work:
        sd = runs.model(work)
        cases = {}
        for way in WAYS:
            for kind, endings in LAUNCHED.items():
                for ending in endings:
                    name = f"{way}: {ending} of {kind}"
                    cases[name] = functools.partial(launched, work, sd, way, kind, ending, f"{args.seed} {name}")
            for fmt, endings in EXPORTED.items():
                for ending in endings:
                    name = f"{way}: {ending} of an export"
                    cases[name] = functools.partial(exported, work, sd, way, fmt, ending, f"{args.seed} {name}")
        for number, ending in enumerate(COMPARED):
            way = list(WAYS)[number % len(WAYS)]
            name = f"{way}: {ending} of a comparison"
            cases[name] = functools.partial(compared, work, sd, way, ending, f"{args.seed} {name}")
        for way in WAYS:
            for ending in BY_WORKERS:
                name = f"{way}: {ending} of a comparison's worker"
                cases[name] = functools.partial(compared, work, sd, way, ending, f"{args.seed} {name}", True)
        results.run(cases, args.only)


REFUSES = "-- the disk refuses from here on --\n"


def refused(disk: Disk, ending: str, number: int, share: float, sizes: dict[str, int]) -> None:
    """Has the disk refuse in the n-th file whose name ends so, after a share of its length in an undisturbed run."""
    left = [number]

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if left[0] < 0 or event not in ("open", "subprocess.Popen"):
            return
        names = args[1] if event == "subprocess.Popen" else [args[0]]
        for name in map(os.fsdecode, (n for n in names if isinstance(n, (str, bytes, os.PathLike)))):
            path = name.removesuffix(".part")
            # a log that grows has its own name, with a number after it
            hit = ending in path if ending == "events.out" else path.endswith(ending)
            if not hit or (event == "open" and ending.endswith(".mp4")):
                continue
            left[0] -= 1
            if left[0] < 0:
                length = next((size for file, size in sizes.items() if path.endswith(file)), 600)
                os.write(2, REFUSES.encode())
                disk.refuse(int(share * length))
            return

    sys.addaudithook(hook)


def sizes_below(top: Path) -> dict[str, int]:
    return {f"{file.parent.name}/{file.name}": file.stat().st_size for file in top.rglob("*") if file.is_file()}


def refused_in_workers(disk: Disk, *which: Any) -> None:
    """The same in the processes that a comparison's server forks: Python runs what it finds as sitecustomize first."""
    own = disk.folder / "first"
    own.mkdir()
    given = {"way": next(n for n, kind in WAYS.items() if type(disk) is kind), "state": disk.__dict__, "which": which}
    (own / "given.json").write_text(json.dumps(given, default=str))
    said = f"import sys; sys.path[:0] = {sys.path!r}; from campaign import disks; disks.begin({str(own)!r})\n"
    (own / "sitecustomize.py").write_text(said)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(own), os.environ.get("PYTHONPATH", "")])


def begin(own: str) -> None:
    """What that file calls."""
    given = json.loads((Path(own) / "given.json").read_text())
    disk = object.__new__(WAYS[given["way"]])
    disk.__dict__ = {name: Path(value) for name, value in given["state"].items()}
    refused(disk, *given["which"])


def attempt(
    disk: Disk, log: Path, command: list[str], ending: str, draw: random.Random, sizes: dict[str, int],
    where: Callable[..., None] = refused,
) -> Row:  # fmt: skip
    """One run on a disk that refuses: its status, its sentence, and what is wrong with what it left."""
    log.unlink(missing_ok=True)
    number = draw.randrange({".ckpt": 4, "last.ckpt": 3, "-val.png": 2}.get(ending, 1))
    share = 0.0 if ending in OPTIONAL else draw.random()  # else a file that is needed may be cut first
    before = functools.partial(where, disk, ending, number, share, sizes)
    status = runs.finish(runs.fork(command, log, before))
    disk.relent()
    text = nameless(log.read_text(errors="replace"))
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    faults = runs.broken(disk.folder) + [f"{file.name} is left" for file in disk.folder.rglob("*.part")]
    if REFUSES not in text:
        faults.append("no such file was written")
    if "Traceback" in text:
        faults.append("traceback: " + " ".join(text.split()[-40:])[-300:])
    if ending in OPTIONAL and text.count(OPTIONAL[ending]) < 1:
        faults.append("no warning")
    # on a disk that stays full, a file that is needed comes after the one that is not
    if status not in ((0, 2) if ending in OPTIONAL else (2,)):
        faults.append(f"status {status}")
    elif len(errors) != (status == 2):
        faults.append(f"{len(errors)} sentences")
    return {"status": status, "said": (errors or [""])[-1][7:300], "faults": faults}


def verdict(row: Row, more: list[str]) -> Row:
    faults = row.pop("faults") + more
    return {**row, "verdict": "; ".join(faults) or "ok"}


def launched(work: Path, sd: Path, way: str, kind: str, ending: str, seed: str) -> Row:
    wanted, _ = kills.undisturbed(work, sd, kind)
    disk, log = WAYS[way](work / "disk"), work / "disk.log"
    shutil.rmtree(work / ".threestudio_cache", ignore_errors=True)
    try:
        command = ["launch", *runs.words(kind, sd, disk.folder)]
        os.chdir(disk.folder)
        row = attempt(disk, log, command, ending, random.Random(seed), sizes_below(work / f"{kind}-whole"))
        last = runs.folder(disk.folder) / "ckpts" / "last.ckpt"
        if last.exists():
            parsed = runs.folder(disk.folder) / "configs" / "parsed.yaml"
            command = ["launch", "--config", str(parsed), "--train", f"resume={last}"]
        status = runs.finish(runs.fork(command, log))
        more = [f"then status {status}: {log.read_text()[-200:]}"] * bool(status)
        more += [] if status else kills.differ(runs.ends(runs.folder(disk.folder)), wanted)
        return verdict(row, more)
    finally:
        os.chdir(work)
        disk.end()


@functools.cache
def undisturbed_export(work: Path, sd: Path, fmt: str) -> tuple[list[str], dict[str, bytes]]:
    """The words of an export of the undisturbed NeRF, and its files."""
    kills.undisturbed(work, sd, "nerf")
    top = runs.folder(work / "nerf-whole")
    words = ["launch", *runs.words("nerf", sd, work / "exported"), f"resume={top / 'ckpts' / 'last.ckpt'}"]
    words = ["--export" if word == "--train" else word for word in words]
    words += [f"system.exporter.fmt={fmt}", "system.exporter.texture_size=64"]
    shutil.rmtree(work / "exported", ignore_errors=True)
    status = runs.finish(runs.fork(words, work / "export.log"))
    assert status == 0, (work / "export.log").read_text()
    return words, files_of(work / "exported")


def files_of(top: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in top.rglob("save/*export/*") if file.is_file()}


def exported(work: Path, sd: Path, way: str, fmt: str, ending: str, seed: str) -> Row:
    words, wanted = undisturbed_export(work, sd, fmt)
    disk, log = WAYS[way](work / "disk"), work / "disk.log"
    try:
        command = [f"exp_root_dir={disk.folder}" if word.startswith("exp_root_dir=") else word for word in words]
        row = attempt(disk, log, command, ending, random.Random(seed), sizes_below(work / "exported"))
        status = runs.finish(runs.fork(command, log))
        more = [f"then status {status}"] * bool(status) or runs.difference(files_of(disk.folder), wanted)
        return verdict(row, more)
    finally:
        disk.end()


def compared(work: Path, sd: Path, way: str, ending: str, seed: str, again: bool = False) -> Row:
    """A comparison whose runs are done; or whose workers have runs at their last step, to end and to measure again."""
    wanted, _ = kills.undisturbed_comparison(work, sd)
    disk, log = WAYS[way](work / "disk"), work / "disk.log"
    try:
        out = disk.folder / "out"
        shutil.copytree(work / "compare-whole", out)
        command, sizes = kills.compared(sd, out), sizes_below(out)
        for part in ("claims", "results", "turntables") if again else ():
            for folder in (out / part).iterdir():
                if "-short-run-" not in folder.name:
                    shutil.rmtree(folder)
        where = refused_in_workers if again else refused
        row = attempt(disk, log, command, ending, random.Random(seed), sizes, where)
        status = runs.finish(runs.fork(command, log))
        more = [f"then status {status}"] * bool(status) or runs.difference(kills.comparison_end(out), wanted)
        return verdict(row, more)
    finally:
        disk.end()
