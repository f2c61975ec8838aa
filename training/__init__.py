"""Offline training: makes the sample, trains the network, writes the model bundle."""
