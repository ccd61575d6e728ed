"""threestudio's command line on the bundled host: python launch.py --config … --train key=value …

With --threestudio DIR, the real threestudio of that folder runs instead, on a CPU (pullback/standins/launch.py).
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "custom", "threestudio-pullback"))

try:
    if any(arg.partition("=")[0] == "--threestudio" for arg in sys.argv):
        from pullback.standins.launch import main
    else:
        from pullback.host.launch import main
except ModuleNotFoundError as e:
    print(f"error: the package '{e.name}' is missing; run ./install.sh, or: pip install {e.name}", file=sys.stderr)
    sys.exit(2)
except KeyboardInterrupt:
    print("error: stopped by SIGINT", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    sys.exit(main())
