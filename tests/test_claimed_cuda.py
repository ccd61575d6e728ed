"""The core, the host's parts and a model in half precision, on tensors that claim to be on CUDA."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent / "claimed_cuda"


@pytest.mark.skipif(torch.version.cuda is not None, reason="the library stands for what a CUDA build of PyTorch has")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it is loaded by the name that it has on Linux")
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_nothing_mixes_devices_or_waits_for_them_on_tensors_that_claim_to_be_on_cuda(tmp_path: Path):
    root, library = Path(torch.__file__).parent, tmp_path / "guard.so"
    flags = ["-std=c++20", "-shared", "-fPIC", f"-I{root / 'include'}", f"-L{root / 'lib'}", "-lc10", "-ltorch_cpu"]
    subprocess.run(["g++", str(HERE / "guard.cpp"), "-o", str(library), *flags], check=True, timeout=300)
    command = [sys.executable, str(HERE / "run.py"), str(library), str(HERE / "checks.py"), "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-8000:] + done.stderr[-2000:]
