#!/usr/bin/env bash
# ray 2.60.0: ray.init() of a cluster of one machine writes a token below the home folder, which later clusters of that user share,
# and sets RAY_AUTH_MODE in the environment of its own process, where it stays after ray.shutdown(), for every program that this
# process starts. The documentation of ray.init names neither.
# Seen: ~/.ray/auth_token, and RAY_AUTH_MODE=token, both after the shutdown. Fails if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check ray==2.60.0
mkdir "$folder/home"
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH
HOME=$folder/home RAY_TMPDIR=$folder "$folder/venv/bin/python" - <<'PY'
import os
from pathlib import Path

import ray

token = Path.home() / ".ray" / "auth_token"
assert not token.exists() and "RAY_AUTH_MODE" not in os.environ
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
ray.shutdown()
mode = os.environ.get("RAY_AUTH_MODE")
print(f"ray {ray.__version__}: ~/.ray/auth_token is there: {token.exists()}; RAY_AUTH_MODE={mode}, after the shutdown")
assert token.exists() and mode == "token", "that has changed"
assert "token" not in (ray.init.__doc__ or ""), "the documentation names it now"
PY
