#!/usr/bin/env bash
# diffusers 0.42.1: the multistep solvers (DPM-Solver, DEIS, UniPC) in their mode for flow matching cut each step's time, 1000 sigma,
# to an integer. What is cut is a rounding error as well: three steps of DPM-Solver end at sigma 0.333, and the network is told 332.
# So pipelines with these solvers ask a network at other times than the noise has, by up to one thousandth of the range, while
# FlowMatchEulerDiscreteScheduler hands on the exact real number.
# Seen: sigmas 0.999, 0.666, 0.333 and timesteps 999, 666, 332 (int64); Euler's time of sigma 0.333 is 333.0. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check diffusers==0.42.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import diffusers
import torch

print("diffusers", diffusers.__version__)
for name in ("DPMSolverMultistepScheduler", "DEISMultistepScheduler"):
    solver = getattr(diffusers, name)(prediction_type="flow_prediction", use_flow_sigmas=True)
    solver.set_timesteps(3)
    sigmas = [round(float(sigma), 4) for sigma in solver.sigmas[:3]]
    print(f"  {name}: sigmas {sigmas}, timesteps {solver.timesteps.tolist()} ({solver.timesteps.dtype})")
    assert sigmas == [0.999, 0.666, 0.333], "the levels are others now"
    assert solver.timesteps.dtype == torch.int64 and solver.timesteps.tolist() == [999, 666, 332], "times are kept now"
euler = diffusers.FlowMatchEulerDiscreteScheduler()
euler.set_timesteps(sigmas=[0.999, 0.666, 0.333])
print(f"  {type(euler).__name__}: timesteps {[round(float(t), 3) for t in euler.timesteps]}")
assert abs(float(euler.timesteps[-1]) - 333) < 1e-3, "Euler cuts its times too"
PY
