"""Metrics: pixel counts per image and class, and all scores that follow from them."""
