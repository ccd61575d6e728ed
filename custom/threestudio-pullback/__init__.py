"""What threestudio's launch.py imports from its custom/ folder: enters the adapters into its registry."""

from .doorway import enter

enter()
