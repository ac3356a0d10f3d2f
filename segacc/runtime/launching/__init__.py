"""Several processes that `segacc train` or `segacc evaluate` starts itself."""
