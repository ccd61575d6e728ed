"""The command line of threestudio on the bundled host: `python launch.py --config FILE --train key=value …`.

With --threestudio DIR, the real threestudio of that folder runs instead, on a CPU (pullback/cuda_standins/launch.py).
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "custom", "threestudio-pullback"))

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported; see pullback/threads.py

try:
    from pullback.cli.launch import main

    if __name__ == "__main__":
        sys.exit(main(sys.argv[1:]))
except ModuleNotFoundError as e:
    print(f"error: the package '{e.name}' is missing; run ./install.sh, or: pip install {e.name}", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    print("error: stopped by SIGINT", file=sys.stderr)
    sys.exit(130)
