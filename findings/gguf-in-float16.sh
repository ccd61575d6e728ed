#!/usr/bin/env bash
# diffusers 0.42.1 makes numbers of a GGUF file's quantised weights in float16, whatever GGUFQuantizationConfig(compute_dtype=…)
# says, and casts them to that dtype afterwards. So with float32 a weight of Q8_0, a scale times a whole number, is rounded to
# 11 bits, and one of a K kind, which takes several products and a difference, more. A reference that reads the same file, such as
# the package gguf itself, gives other numbers.
# Seen: Q8_0 differs by half a step of float16 (4.9e-4 of a weight); exactly the reference's numbers, rounded to float16.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" diffusers==0.42.1 transformers==5.23.0 accelerate==1.15.0 gguf==0.19.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import torch
from diffusers.quantizers.gguf.utils import GGUFLinear, GGUFParameter
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize, quantize

torch.manual_seed(0)
data = quantize(torch.randn(64, 64).numpy(), Kind.Q8_0)
meant = torch.from_numpy(dequantize(data, Kind.Q8_0))
layer = GGUFLinear(64, 64, compute_dtype=torch.float32)
layer.weight = GGUFParameter(torch.from_numpy(data), quant_type=Kind.Q8_0)
with torch.no_grad():
    used = layer(torch.eye(64)).T  # the weights that it multiplies with
at = meant != 0
error = float(((used - meant)[at] / meant[at]).abs().max())
print(f"the layer's weights differ from the file's by up to {error:.1e} of their size; they are those rounded to float16:",
      torch.equal(used, meant.half().float()))
assert torch.equal(used, meant.half().float()) and error > 1e-4, "float32 is float32 now"
PY
