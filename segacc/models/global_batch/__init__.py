"""Layers over the global batch, so that results do not depend on the number of processes."""
