"""Formats of request and response bodies: one module per format, decode beside encode; content negotiation."""
