"""Photometric redshifts from galaxy images: the core library that the service, the training and the client share."""

__version__ = "1.0.0"
