"""The HTTP contract and the Open Inference Protocol."""
