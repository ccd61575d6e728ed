#!/usr/bin/env bash
# pytorch-lightning 2.6.6, torch 2.13.0: seed_everything sets PL_GLOBAL_SEED in the environment at each call, and glibc keeps every
# value that a variable has had. A program that seeds each of its steps with another number grows for as long as it runs; tools that
# look at Python's memory do not see it.
# Seen with glibc 2.36: 64 bytes a call with a new seed each time; no growth with the same seed, nor by the generators' own
# functions (their resident memory fell). Fails if a new seed costs less than 16 bytes a call.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 pytorch-lightning==2.6.6 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import ctypes
import gc
import platform
import random
from importlib.metadata import version

import numpy
import torch
from pytorch_lightning import seed_everything

CALLS = 100_000


def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = open("/proc/self/status").read().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def own(seed):
    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)


def growth(seed_with, new):
    for seed in range(5000):
        seed_with(seed if new else 0)
    before = resident()
    for seed in range(5000, 5000 + CALLS):
        seed_with(seed if new else 0)
    return (resident() - before) / CALLS


def lightning(seed):
    seed_everything(seed, verbose=False)


found = {
    "the generators alone, a new seed": growth(own, True),
    "seed_everything, the same seed": growth(lightning, False),
    "seed_everything, a new seed": growth(lightning, True),
}
print(f"pytorch-lightning {version('pytorch-lightning')}, torch {torch.__version__}, {' '.join(platform.libc_ver())}; bytes a call:")
for name, size in found.items():
    print(f"  {name}: {size:.1f}")
assert max(list(found.values())[:2]) < 8, "another part of seeding grows too"
assert found["seed_everything, a new seed"] > 16, "a new seed costs no memory now: this finding has changed"
PY
