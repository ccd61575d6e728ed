"""threestudio itself, unmodified, on a machine without CUDA: stand-ins for what it expects of CUDA.

Only `launch.py --threestudio DIR` uses this package.
"""
