"""Cameras and panorama crops: the one pose, the one pinhole, the one projection."""
