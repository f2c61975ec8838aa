"""The Open Inference Protocol v2 under `/v2`: its routes, what its tensors mean here, and its part of the document."""
