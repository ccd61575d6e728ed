"""What runs round a training: systems, callbacks, checkpoints, files."""
