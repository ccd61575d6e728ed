"""Runs pytest in a process where tensors without data may claim to be on CUDA, with PyTorch's CPU build.

python tests/claimed_cuda/run.py LIBRARY ARGUMENT…

LIBRARY is guard.cpp, compiled. It must be there before `import torch`, which asks for its hooks once.
"""

from __future__ import annotations

import ctypes
import sys
from importlib.util import find_spec
from pathlib import Path

if __name__ == "__main__":
    spec = find_spec("torch")
    assert spec is not None and spec.origin is not None
    ctypes.CDLL(str(Path(spec.origin).parent / "lib" / "libtorch_cpu.so"), mode=ctypes.RTLD_GLOBAL)
    kept = ctypes.CDLL(sys.argv[1])
    import pytest

    sys.exit(pytest.main(sys.argv[2:]))
