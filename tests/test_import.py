"""`import pullback` needs torch and nothing heavier."""

from __future__ import annotations

import subprocess
import sys

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


def test_public_names():
    import pullback

    for name in ("sample", "steps", "Sampler", "Repaint", "Projection", "FirstOrder", "GaussNewton", "karras_sigmas"):
        assert callable(getattr(pullback, name))
    for name in ("GaussianPrior", "MixturePrior", "SceneMixture"):
        assert callable(getattr(pullback.priors, name))
    for name in ("Pixels", "Linear", "SirenImage", "VoxelField"):
        assert callable(getattr(pullback.diffreps, name))
