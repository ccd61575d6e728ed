"""`pullback-guidance`: options, sampler and drop-in."""
