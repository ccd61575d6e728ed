"""threestudio's command line on the bundled host: python launch.py --config … --train key=value …"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "custom", "threestudio-pullback"))

from pullback.host.launch import main

if __name__ == "__main__":
    sys.exit(main())
