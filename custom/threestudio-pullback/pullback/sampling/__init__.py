"""The sampler: noise levels, state, space, and the loop over visits."""
