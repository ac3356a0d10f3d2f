"""Configs: the settings of a run, the command line that gives them, and their checks."""
