"""The folders of runs: what is written into them, which there are, and how each is doing."""
