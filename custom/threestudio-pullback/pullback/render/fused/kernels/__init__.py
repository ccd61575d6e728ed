"""The kernels' source for Warp, which reads annotations as types of its own."""
