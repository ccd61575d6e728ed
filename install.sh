#!/usr/bin/env bash
# Sets up .venv in this folder with everything the project needs, and the `pullback` command.
# Does nothing where that has been done for these requirements. PYTHON=… chooses the interpreter.
set -euo pipefail
cd "$(dirname "$0")"

python=${PYTHON:-python3}
"$python" - <<'EOF' || { echo "error: Python 3.10 or newer is needed; set PYTHON=/path/to/python3.11" >&2; exit 2; }
import sys
sys.exit(sys.version_info < (3, 10))
EOF

stamp=.venv/installed
wanted=$(cat requirements.txt pyproject.toml | sha256sum)
if [ -x .venv/bin/pullback ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

echo "Setting up .venv (PyTorch, diffusers, Lightning; about 2 GB, some minutes)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
# torch first: another package's open-ended requirement would bring a CUDA build of several GB
"${pip[@]}" "$(grep '^torch==' requirements.txt)"
"${pip[@]}" -r requirements.txt
"${pip[@]}" --no-deps -e .
echo "$wanted" > "$stamp"
echo "Done. Try: .venv/bin/pullback --help"
