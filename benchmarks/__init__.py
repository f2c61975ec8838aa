"""Measurements of the service: speed, other servers, science, resilience."""
