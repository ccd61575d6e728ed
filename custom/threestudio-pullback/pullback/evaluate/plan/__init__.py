"""What a run needs, before it is run: parameters, FLOPs, network calls, memory, time."""
