"""Losses of the global batch, and what their terms share."""
