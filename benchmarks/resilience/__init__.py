"""Failures and hostile load against the running service: `python -m benchmarks.resilience NAME`."""
