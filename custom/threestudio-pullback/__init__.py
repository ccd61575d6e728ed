"""What threestudio's launch.py imports from its custom/ folder: enters the adapters into its registry."""

from .registration import enter

enter()
