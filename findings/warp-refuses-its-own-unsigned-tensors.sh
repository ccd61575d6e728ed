#!/usr/bin/env bash
# warp-lang 1.19.0: to_torch gives tensors of torch.uint16, uint32 and uint64, and from_torch refuses each of them, its own too.
# What is made in Warp, a seed or a code of Morton's, cannot come back from PyTorch but by a view as a signed type.
# Seen: "Cannot convert torch.uint64 to a Warp type" for the tensor that to_torch has returned; int64 goes both ways.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check warp-lang==1.19.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
import warp as wp

wp.config.quiet = True
print(f"warp-lang {wp.__version__}, torch {torch.__version__}: an array to torch, and the same back:")
for name in ("uint8", "uint16", "uint32", "uint64", "int64"):
    tensor = wp.to_torch(wp.zeros(4, dtype=getattr(wp, name), device="cpu"))
    try:
        back = wp.from_torch(tensor).dtype.__name__
    except TypeError as error:
        back = f"TypeError: {error}"
    print(f"  {name}: {tensor.dtype}, {back}")
    assert (back == name) == (name in ("uint8", "int64")), "from_torch takes unsigned types now"
PY
