"""Several runs that are scored as one model, and beside each other."""
