"""segacc in Python: `segacc.train`, `segacc.evaluate`, `segacc.predict` and `segacc.load`."""
