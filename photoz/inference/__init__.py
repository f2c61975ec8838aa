"""Inference: from cutouts to calibrated estimates, the one path of service, export check and evaluation."""
