"""What has a colour for every ray and no volume: images and panoramas."""
