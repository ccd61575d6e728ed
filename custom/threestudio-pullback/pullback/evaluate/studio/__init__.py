"""The studio: the shipped model's world, known exactly."""
