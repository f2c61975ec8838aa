"""Inference: from validated cutouts to estimates, with any engine that runs the network of a bundle."""
