#!/usr/bin/env bash
# torch 2.13.0 (CPU build, with the libgomp of its wheel): threads of an operation wait for each other awake. On two cores, of
# which another process keeps one busy, the thread that is waited for does not get its core back for the rest of a time slice,
# in every operation: a small convolutional network becomes slower by tens of times, and slower than with one thread.
# OMP_WAIT_POLICY=passive, set before torch is imported, mends it; torch.set_num_threads(1) does as well.
# Seen beside the busy process, with other load: 3,359 ms a call, 120 with passive, 137 with one thread. Fails if the default
# comes within three times of passive.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
cat > "$folder/call.py" <<'PY'
import os
import statistics
import sys
import time

os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
import torch

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
layers = [torch.nn.Sequential(torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.GroupNorm(8, 32), torch.nn.SiLU()) for _ in range(40)]
network, images = torch.nn.Sequential(*layers), torch.randn(8, 32, 16, 16)
times, end = [], time.monotonic() + 10
with torch.no_grad():
    network(images)
    while len(times) < 15 and time.monotonic() < end:
        start = time.perf_counter()
        network(images)
        times.append(1000 * (time.perf_counter() - start))
print(statistics.median(times) if times else 10000.0)
PY
cat > "$folder/all.py" <<'PY'
import os
import subprocess
import sys

import torch

two = sorted(os.sched_getaffinity(0))[:2]
if len(two) < 2:
    sys.exit("this needs two cores")
print(f"torch {torch.__version__}, cores {two} of {os.cpu_count()}, load {os.getloadavg()[0]:.1f}; median ms of a call:")


def call(threads, **environment):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, sys.argv[1], str(threads)], env={**kept, **environment}, capture_output=True, text=True, check=True)
    return float(done.stdout)


ways = {"2 threads": (2, {}), "2 threads, OMP_WAIT_POLICY=passive": (2, {"OMP_WAIT_POLICY": "passive"}), "1 thread": (1, {})}
alone = {name: call(threads, **environment) for name, (threads, environment) in ways.items()}
spin = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, [{two[1]}])\nwhile True: pass"]
busy = subprocess.Popen(spin)
try:
    beside = {name: call(threads, **environment) for name, (threads, environment) in ways.items()}
finally:
    busy.kill()
    busy.wait()
for name in ways:
    print(f"  {name}: alone {alone[name]:.0f}, beside a busy process {beside[name]:.0f}")
default, passive, one = beside.values()
print(f"beside a busy process, the default takes {default / passive:.1f} times as long as passive, {default / one:.1f} times as long as one thread")
sys.exit(0 if default > 3 * passive else "the threads no longer spin: this finding has changed")
PY
"$folder/venv/bin/python" "$folder/all.py" "$folder/call.py"
