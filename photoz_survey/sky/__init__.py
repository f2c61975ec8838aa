"""Cutouts of positions on the sky, from the frames of an archive."""
