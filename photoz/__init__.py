"""Photometric redshifts from galaxy images: the core that training, service and client stand on."""

__version__ = "0.1.0"
