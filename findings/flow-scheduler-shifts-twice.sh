#!/usr/bin/env bash
# diffusers 0.42.1: FlowMatchEulerDiscreteScheduler applies its shift when it is made, and again in set_timesteps, whose range is
# that of the values shifted already. So its levels after set_timesteps(1000) are not the 1000 of its config, which the model was
# trained with, and the last is three times as high with a shift of 3: a sampler that takes its lowest level from there stops early.
# Seen: lowest level 0.002994 when made, 0.008929 after set_timesteps, which is shift(shift(1/1000)). Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check diffusers==0.42.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import diffusers

shift = 3.0


def shifted(x):
    return shift * x / (1 + (shift - 1) * x)


scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
made = float(scheduler.sigmas[-1])
scheduler.set_timesteps(1000)
*_, lowest, end = scheduler.sigmas.tolist()
print(f"diffusers {diffusers.__version__}: lowest level when made {made:.6f}, after set_timesteps(1000) {lowest:.6f}")
print(f"  shift(1/1000) = {shifted(1e-3):.6f}, shift(shift(1/1000)) = {shifted(shifted(1e-3)):.6f}")
assert end == 0 and abs(made - shifted(1e-3)) < 1e-6, "the levels when made are others now"
assert abs(lowest - shifted(shifted(1e-3))) < 1e-6, "the shift is applied once now"
PY
