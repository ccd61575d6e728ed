#!/usr/bin/env bash
# viser 1.1.1: a server that is told a port listens at the next free one where that is taken, and says so nowhere but in the box
# that it prints; whoever forwards or opens the port that was asked for reaches the other program.
# Seen: of two servers with the same port, the second one starts without an error or a warning, at the port above. Fails if that
# changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check viser==1.1.1 numpy==2.4.6
"$folder/venv/bin/python" -W error - <<'PY'
from importlib.metadata import version

import viser

first = viser.ViserServer(host="127.0.0.1", port=8947, verbose=False)
second = viser.ViserServer(host="127.0.0.1", port=first.get_port(), verbose=False)
print(f"viser {version('viser')}: asked for {first.get_port()} twice, the second server is at {second.get_port()}")
assert second.get_port() != first.get_port(), "a port that is taken is refused now"
second.stop()
first.stop()
PY
