"""The model bundle and its card."""
