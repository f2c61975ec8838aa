"""The HTTP service: a model bundle behind BentoML."""
