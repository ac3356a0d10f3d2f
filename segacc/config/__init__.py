"""What a run is told: the configs, the command line that gives them, and their checks."""
