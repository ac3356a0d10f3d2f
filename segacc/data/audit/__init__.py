"""Checking a data set: everything that can be wrong with it."""
