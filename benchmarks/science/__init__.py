"""Scores, training recipe and simulated images: `python -m benchmarks.science NAME`."""
