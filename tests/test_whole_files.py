"""Files are whole or not there, whatever the disk refuses: every kind, and every place that writes one."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_toy
import numpy as np
import pullback
import pytest
import torch
from pullback.errors import UserError
from pullback.evaluate.compare import judge
from pullback.host import explain, launch
from pullback.host.config import dump_config
from pullback.host.training.checkpoint import AtomicCheckpointIO
from pullback.host.training.saving import SaverMixin
from pullback.output import chart, contact_sheet, panorama_files, pictures, whole

PACKAGE = Path(pullback.__file__).parent
PICTURE = torch.rand(3, 8, 16) * 2 - 1
FRAMES = [np.zeros((16, 16, 3), np.uint8)] * 2
CORNERS, FACES = torch.eye(4, 3), torch.tensor([[0, 1, 2], [0, 2, 3]])


def saver(folder: Path) -> SaverMixin:
    made = SaverMixin()
    made.set_save_dir(str(folder))
    return made


def sheet(file: Path) -> None:
    pictures.save_png(file.with_name("one.png"), PICTURE)
    contact_sheet.contact_sheet(file, {"a": [(file.with_name("one.png"), True)]})


def video(file: Path) -> None:
    for i in range(2):
        saver(file.parent).save_rgb_image(f"frames/{i}.png", torch.rand(16, 16, 3))
    saver(file.parent).save_img_sequence(file.name, "frames", r"(\d+)\.png", save_format=file.suffix[1:])


def copy(file: Path) -> None:
    (file.parent / "source").write_text("x")
    saver(file.parent).save_file(file.name, str(file.parent / "source"))


def mesh(file: Path) -> None:
    saver(file.parent).save_mesh(file.name, CORNERS, FACES)


CHECKPOINT = {"state_dict": {}, "epoch": 0, "global_step": 1}
WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.txt": lambda file: whole.write(file, "text"),
    "a.png": lambda file: saver(file.parent).save_rgb_image(file.name, torch.rand(4, 4, 3)),
    "grid.png": lambda file: saver(file.parent).save_image(file.name, np.zeros((4, 4, 3), np.uint8)),
    "a.npy": lambda file: saver(file.parent).save_data(file.name, torch.ones(3)),
    "a.npz": lambda file: saver(file.parent).save_data(file.name, {"a": torch.ones(3)}),
    "a.pth": lambda file: saver(file.parent).save_state_dict(file.name, {"a": torch.ones(3)}),
    "a.json": lambda file: saver(file.parent).save_json(file.name, {"a": 1}),
    "copy.txt": copy,
    **{
        f"a.{end}": lambda file: saver(file.parent).save_mesh(file.name, CORNERS, FACES)
        for end in ("glb", "obj", "ply")
    },
    "a.mp4": video,
    "a.gif": video,
    "a.yaml": lambda file: dump_config(str(file), {"a": 1}),
    "a.ckpt": lambda file: AtomicCheckpointIO().save_checkpoint(CHECKPOINT, file),
    "picture.png": lambda file: pictures.save_png(file, PICTURE),
    "strip.webp": lambda file: judge.save_strip(file, PICTURE[None]),
    "sheet.png": sheet,
    "bars.png": lambda file: chart.histograms(file, {"a": (torch.ones(2) / 2, torch.ones(2) / 2)}),
    "panorama.png": lambda file: panorama_files.save_png(file, PICTURE),
    "cube.png": lambda file: panorama_files.save_cube_map(file, PICTURE),
    "panorama.html": lambda file: panorama_files.save_viewer(file, PICTURE),
    "panorama.mp4": lambda file: panorama_files.save_video(file, PICTURE, 0.1, width=16),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_the_file_as_it_was(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    WRITERS[name](file)
    before = file.read_bytes()
    assert before
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises((OSError, UserError)) as caught:
        WRITERS[name](file)
    said = explain.explain(caught.value)
    assert said is not None and said[1] == 2 and str(file) in said[0] and ".part" not in said[0]
    assert file.read_bytes() == before
    assert not (tmp_path / f"{name}.part").is_symlink()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_what_a_disk_refuses_with_is_one_sentence(number: int) -> None:
    said = explain.explain(OSError(number, "reason", "a.png"))
    assert said is not None and "cannot write a.png: reason; free space" in said[0] and said[1] == 2


def test_what_a_killed_run_left_unfinished_is_gone_when_the_folder_is_written_to_again(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(host_toy.CONFIG.format(root=tmp_path / "out"))
    left = tmp_path / "out" / "toy" / "run" / "save" / "it6-val.png.part"
    left.parent.mkdir(parents=True)
    left.touch()
    words = ["--config", str(tmp_path / "config.yaml"), "--train", "system.prompt=x", "trainer.max_steps=1"]
    assert launch.main(words) == 0
    assert not left.exists()


# logs that grow, a folder that is deleted again, a cache whose files several processes make, checks of a folder, a
# claim that none but the first may make, and a copy that takes the file's place when it is whole
OTHERWISE = {
    "evaluate/trial.py", "sweep/process.py", "evaluate/plan/networks.py", "models/embedding_cache.py",
    "host/folders.py", "sweep/folder.py", "sweep/claims.py", "host/training/logs.py",
}  # fmt: skip
WRITES = re.compile(
    r"write_(text|bytes)\(|copyfile\(|shutil\.copy|(?<!def )save_file\(|savefig\(|mimsave\((?!content)|json\.dump\("
    r"|\.export\(path"
    r"|np\.savez?\((?!content)|torch\.save\(\w+, (?!content|f\))|[)t]\.save\((file|path)|open\([^()]*[\"'][wax]b?[\"']"
)


def test_nothing_in_the_package_writes_another_way() -> None:
    found = {
        str(file.relative_to(PACKAGE))
        for file in PACKAGE.rglob("*.py")
        for line in file.read_text().splitlines()
        if WRITES.search(line) and "devnull" not in line and "open(part," not in line
    }
    assert found - OTHERWISE == set()
