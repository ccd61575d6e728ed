"""`import pullback` needs torch and nothing heavier."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

HEAVY = (
    "accelerate", "diffusers", "imageio", "lightning", "matplotlib", "nerfacc", "omegaconf", "PIL",
    "pytorch_lightning", "scipy", "skimage", "tensorboard", "threestudio", "torchvision", "transformers", "trimesh",
)  # fmt: skip


def test_import_needs_only_torch():
    code = (
        "import sys, pullback; "
        f"found = [name for name in {HEAVY!r} if name in sys.modules]; "
        "assert 'torch' in sys.modules and not found, found"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "own", "policy"),
    [
        (["launch.py", "--help"], None, "passive"),
        (["-m", "pullback", "--version"], None, "passive"),
        (["pullback"], None, "passive"),
        (["-m", "pullback", "--version"], "active", "active"),
        (["launch.py", "--help"], "active", "active"),
        (["-c", "import pullback"], None, "None"),
    ],
)
def test_threads_of_the_commands_wait_asleep_unless_the_user_says_otherwise(
    words: list[str], own: str | None, policy: str, tmp_path: Path
) -> None:
    """A sitecustomize reads what the environment says when torch is first looked for."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "class Look:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch':\n"
        "            print('policy', os.environ.get('OMP_WAIT_POLICY'), flush=True)\n"
        "            sys.meta_path.remove(self)\n"
        "sys.meta_path.insert(0, Look())\n"
    )
    if words == ["pullback"]:
        (tmp_path / "pullback").write_text("import sys\nfrom pullback.cli import main\nsys.exit(main(['--version']))\n")
        words = [str(tmp_path / "pullback")]
    env = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    env |= {"OMP_WAIT_POLICY": own} if own else {}
    path = os.pathsep.join([str(tmp_path), str(ROOT / "custom" / "threestudio-pullback")])
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=ROOT, env={**env, "PYTHONPATH": path}
    )
    assert done.stdout.splitlines()[0] == f"policy {policy}", done.stderr


def test_public_names():
    import pullback

    for name in ("sample", "steps", "Sampler", "Repaint", "Projection", "FirstOrder", "GaussNewton", "karras_sigmas"):
        assert callable(getattr(pullback, name))
    for name in ("GaussianPrior", "MixturePrior", "SceneMixture"):
        assert callable(getattr(pullback.priors, name))
    for name in ("Pixels", "Linear", "SirenImage", "VoxelField"):
        assert callable(getattr(pullback.diffreps, name))
