"""What a run's folder says of the run: prompt, seed, settings, command, the values of its steps, its files."""

from __future__ import annotations

import csv
import math
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..errors import UserError

COMMAND = "command.txt"
"""Of a run in threestudio, what cmd.txt is in the bundled host."""
_PICTURES = ("*-whole/panorama.png", "*-test/0.png", "*-val.png")
_VIDEOS = ("*-whole/panorama.mp4", "*-test.mp4")
_MESHES = ("*-export/*.glb",)


@dataclass(frozen=True)
class Record:
    """A run.

    Attributes:
        folder: Of the run.
        config: As parsed, with all overrides.
        settings: The same as the text of its file.
        command: Repeats the run; "" where the folder does not say it.
        version: Of the program.
        started: When, as text; of a run that was resumed, when it went on.
        values: Name of a logged value → step → value; finite ones only.
        mesh: The newest glb.
        video: The newest turntable, or turn round a panorama.
        picture: The newest picture of the sample, or the panorama.
    """

    folder: Path
    config: dict[str, Any]
    settings: str
    command: str
    version: str
    started: str
    values: dict[str, dict[int, float]]
    mesh: Path | None
    video: Path | None
    picture: Path | None

    @property
    def prompt(self) -> str:
        """The prompt; the run's tag where its system has none."""
        return str(self._of("prompt_processor").get("prompt") or self.config.get("tag") or self.folder.name)

    @property
    def seed(self) -> int:
        """The seed of the sample."""
        return int(self.config.get("seed", 0))

    @property
    def model(self) -> str:
        """The diffusion model's path or hub id; "" where there is none."""
        return str(self._of("prompt_processor").get("pretrained_model_name_or_path") or "")

    @property
    def guidance(self) -> dict[str, Any]:
        """The block system.guidance."""
        return self._of("guidance")

    @property
    def elevations(self) -> tuple[float, float] | None:
        """Lowest and highest elevation of the training cameras, in degrees; None where the config does not say it."""
        data = self.config.get("data")
        found = data.get("elevation_range") if isinstance(data, dict) else None
        try:
            low, high = map(float, found)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None
        return low, high

    @property
    def panorama(self) -> bool:
        """Whether the picture is a panorama."""
        return self.picture is not None and self.picture.name == "panorama.png"

    def last(self, name: str) -> float | None:
        """The last of a logged value; None where there is none."""
        steps = self.values.get(name)
        return steps[max(steps)] if steps else None

    def _of(self, block: str) -> dict[str, Any]:
        system = self.config.get("system")
        found = system.get(block) if isinstance(system, dict) else None
        return found if isinstance(found, dict) else {}


def read(folder: Path | str) -> Record:
    """Reads a run's folder.

    Raises:
        UserError: It is no folder of a run, or its config cannot be read.
    """
    folder = Path(folder)
    parsed = folder / "configs" / "parsed.yaml"
    try:
        settings = parsed.read_text(encoding="utf-8")
        config = yaml.safe_load(settings)
    except OSError as e:
        raise UserError(f"{folder} is no folder of a run: cannot read {parsed}: {e.strerror}") from e
    except (UnicodeDecodeError, yaml.YAMLError) as e:
        raise UserError(f"{parsed} is damaged and no config; is {folder} a run's folder?") from e
    if not isinstance(config, dict):
        raise UserError(f"{parsed} is damaged and no config; is {folder} a run's folder?")
    told, save = folder / COMMAND, folder / "save"
    told = told if told.is_file() else folder / "cmd.txt"
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    began = told.stat().st_mtime if lines else parsed.stat().st_mtime
    return Record(
        folder, config, settings, _again(lines[0]) if lines else "", lines[1] if len(lines) > 1 else "",
        time.strftime("%Y-%m-%d %H:%M", time.localtime(began)), _values(folder),
        *(_newest(save, patterns) for patterns in (_MESHES, _VIDEOS, _PICTURES)),
    )  # fmt: skip


def _again(command: str) -> str:
    """The command without the checkpoint that it went on from."""
    try:
        return shlex.join(word for word in shlex.split(command) if not word.startswith("resume="))
    except ValueError:
        return command


def _newest(save: Path, patterns: tuple[str, ...]) -> Path | None:
    """The newest file of the first pattern that has one."""
    for pattern in patterns:
        if files := list(save.glob(pattern)):
            return max(files, key=lambda file: file.stat().st_mtime)
    return None


def _values(folder: Path) -> dict[str, dict[int, float]]:
    """All that was logged; where a step was made twice, by a resumed run, the later value."""
    found: dict[str, dict[int, float]] = {}
    files = sorted((folder / "csv_logs").glob("version_*/metrics.csv"), key=lambda file: file.stat().st_mtime)
    for file in files:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for name, text in row.items():
                    if name in (None, "step") or not text or not isinstance(text, str):
                        continue
                    try:
                        step, value = int(row["step"]), float(text)
                    except (KeyError, TypeError, ValueError):
                        continue
                    if math.isfinite(value):
                        found.setdefault(name, {})[step] = value
    return found
