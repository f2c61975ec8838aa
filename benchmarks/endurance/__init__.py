"""Programs that try to break the running service, and say what they saw: `python -m benchmarks.endurance NAME`."""
