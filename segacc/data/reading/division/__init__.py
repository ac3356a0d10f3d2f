"""A set without splits: which images belong together, and which split each group goes into."""
