"""A prompt in any script, with quotes and of any length, in every command and in the metadata of what it makes."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from gltf_file import Glb
from PIL import Image
from pullback import cli, models
from pullback.evaluate.compare import plan
from pullback.host import arguments, parts
from pullback.host.config import load_config
from pullback.host.training.saving import SaverMixin
from pullback.models import text as text_models
from pullback.output import panorama_files
from pullback.resources import CONFIGS, TINY_MODEL

ROOT = Path(__file__).resolve().parents[1]
PROMPTS = {
    "apostrophe": "a child's \"red\" cube, it's 100 % $HOME `ls` \\ {x} [y]: #1 & <b>",
    "long": "a very red cube " * 56 + "end",
    "Chinese": "一个红色的立方体",
    "Arabic": "مكعب أحمر",
    "emoji": "a cube 🧊 of ice",
}
parts.load_parts()  # which keys take text depends on them
every = pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)


@every
def test_launch_makes_a_folder_for_it(prompt: str, tmp_path: Path) -> None:
    for name in ("pullback-nerf-tiny", "pullback-image-tiny", "pullback-panorama-tiny"):
        words = [f"system.prompt_processor.prompt={prompt}", f"exp_root_dir={tmp_path}"]
        cfg = load_config(str(CONFIGS / f"{name}.yaml"), cli_args=words)
        assert cfg.system.prompt_processor.prompt == prompt
        os.makedirs(cfg.trial_dir)
        assert Path(cfg.trial_dir).parent == tmp_path / name


@every
def test_the_demo_passes_it_on(prompt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[list[str]] = []
    monkeypatch.setattr("pullback.host.launch.main", lambda words: passed.append(words) or 3)
    assert cli.main(["demo", f"--prompt={prompt}", "--out", str(tmp_path)]) == 3
    args, overrides = arguments.parse_args(passed[0])
    cfg = load_config(args.config, cli_args=overrides)
    assert cfg.system.prompt_processor.prompt == prompt
    os.makedirs(cfg.trial_dir)


@every
def test_compare_reads_it(prompt: str, tmp_path: Path, capsys: Any) -> None:
    assert plan.load_prompts(prompt) == [prompt]
    words = ["compare", "--prompts", prompt, "--methods", "sds", "--dry-run", "--out", str(tmp_path / "o")]
    assert cli.main(words) == 0 and "sds" in capsys.readouterr().out


@every
def test_make_hands_it_over_as_it_is(prompt: str, tmp_path: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name, lines in (("install.sh", "exit 0"), (".venv/bin/pullback", 'printf "%s\\n" "$@"')):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{lines}\n")
        file.chmod(0o755)
    done = subprocess.run(
        ["make", "-s", "demo", f"PROMPT={prompt}", "SEED=3"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == ["demo", f"--prompt={prompt}", "--seed", "3"], done.stderr
    done = subprocess.run(["make", "-s"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[1] == "--prompt=a cube with a red front and a blue back", done.stderr


class Saver(SaverMixin):
    def __init__(self, folder: Path, prompt: str) -> None:
        self.about = {"prompt": prompt, "seed": 7, "version": "threestudio-pullback 0"}
        self.set_save_dir(str(folder))

    def origin(self) -> dict[str, Any]:
        return self.about


def metadata_of_video(file: Path) -> str:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(file), "-f", "ffmetadata", "-"]
    text = subprocess.run(command, capture_output=True, text=True).stdout
    return re.sub(r"\\(.)", r"\1", text, flags=re.S)


@every
def test_files_say_what_they_were_made_from(prompt: str, tmp_path: Path) -> None:
    saver = Saver(tmp_path, prompt)
    for i in range(2):
        picture = saver.save_rgb_image(f"frames/{i}.png", torch.rand(16, 16, 3))
    with Image.open(picture) as image:
        assert image.info == {"prompt": prompt, "seed": "7", "version": "threestudio-pullback 0"}
    video = saver.save_img_sequence("a", "frames", r"(\d+)\.png")
    told = metadata_of_video(Path(video))
    assert f"title={prompt}\n" in told and "comment=seed 7, version threestudio-pullback 0\n" in told
    mesh = saver.save_mesh("a.glb", torch.eye(3), torch.tensor([[0, 1, 2]]))
    assert Glb(Path(mesh)).tree["asset"]["extras"] == saver.about
    files = panorama_files.save_all(tmp_path / "whole", torch.zeros(3, 8, 16), prompt, saver.about)
    with Image.open(files[0]) as image:
        assert image.info["prompt"] == prompt and "GPano" in str(image.info["XML:com.adobe.xmp"])
    assert f"title={prompt}\n" in metadata_of_video(files[2])


def test_a_video_is_close_to_its_pictures(tmp_path: Path) -> None:
    """A smooth picture survives; the encoder halves the resolution of colours, so edges of them would not."""
    saver, ramp = Saver(tmp_path, "x"), torch.linspace(0, 1, 64)
    for i in range(4):
        grey = (ramp[:, None] * ramp[None] + 0.1 * i).clamp(max=1)
        saver.save_rgb_image(f"frames/{i}.png", grey[..., None].expand(-1, -1, 3))
    video = imageio.mimread(saver.save_img_sequence("a", "frames", r"(\d+)\.png"))
    for i, frame in enumerate(video):
        truth = imageio.imread(tmp_path / f"frames/{i}.png").astype(float)
        assert np.sqrt(np.mean((truth - frame) ** 2)) < 2.5  # of 255


def test_a_prompt_that_is_too_long_is_told_in_our_words_alone(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = models.load(TINY_MODEL).text
    monkeypatch.setattr(logging.getLogger("transformers"), "handlers", [caplog.handler])
    (said,) = text_models.cautions(text, "a red cube " * 30, [], "KEY")
    assert "longer than the model's 24 tokens" in said
    assert caplog.messages == []  # transformers would warn of "indexing errors"
