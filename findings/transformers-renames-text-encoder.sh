#!/usr/bin/env bash
# transformers 5.23.0 saves CLIP's text encoder under other names than transformers 4 (without "text_model."), in a folder that
# says nothing of it. transformers 5 reads both. transformers 4.57.6 reads a folder that 5 saved, finds none of its names, and
# returns an encoder with random weights: it warns through its logger, and raises nothing. So what a new version saves makes a
# Stable Diffusion folder that an older environment runs with noise for text.
# Seen: 20 of 20 tensors missing, and an answer that is none of the model's; the other three ways agree to the bit.
# Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check)
"${pip[@]}" torch==2.13.0
"${pip[@]}" transformers==5.23.0 numpy==2.4.6
"${pip[@]}" --no-deps --target "$folder/four" transformers==4.57.6 tokenizers==0.22.2 huggingface_hub==0.36.2
"${pip[@]}" requests==2.34.2
cat > "$folder/save.py" <<'PY'
import sys

import torch
from transformers import CLIPTextConfig, CLIPTextModel

torch.manual_seed(0)
size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=8)
CLIPTextModel(CLIPTextConfig(vocab_size=100, bos_token_id=98, eos_token_id=99, **size)).save_pretrained(sys.argv[1])
PY
cat > "$folder/load.py" <<'PY'
import json
import sys

import torch
import transformers

transformers.logging.set_verbosity_error()
network, info = transformers.CLIPTextModel.from_pretrained(sys.argv[1], output_loading_info=True)
with torch.no_grad():
    answer = network.eval()(torch.arange(5)[None]).last_hidden_state.flatten().tolist()
print(json.dumps([transformers.__version__, len(info["missing_keys"]), len(network.state_dict()), answer]))
PY
cat > "$folder/all.py" <<'PY'
import json
import os
import subprocess
import sys

folder = sys.argv[1]
answers = {}


def python(age, *words):
    paths = {"PYTHONPATH": f"{folder}/four"} if age == 4 else {}
    done = subprocess.run([sys.executable, *words], env={**os.environ, **paths}, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout.strip().splitlines()[-1:]


for saved in (4, 5):
    python(saved, f"{folder}/save.py", f"{folder}/by{saved}")
    for read in (4, 5):
        (line,) = python(read, f"{folder}/load.py", f"{folder}/by{saved}")
        version, missing, count, answers[saved, read] = json.loads(line)
        print(f"saved by transformers {saved}, read by {version}: {missing} of {count} tensors missing; {answers[saved, read][:3]}")
        assert (missing == count) == ((saved, read) == (5, 4)), "the names have changed"
assert answers[4, 4] == answers[4, 5] and answers[5, 4] != answers[5, 5]
PY
"$folder/venv/bin/python" "$folder/all.py" "$folder"
