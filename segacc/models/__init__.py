"""Models: networks, the weights they start from, and their own normalisation."""
