"""What a scene is made of: geometry, material, background, renderer, exporter."""
