"""Measurements: plain seeded scripts, each prints its environment and a ratio of two things run side by side."""
