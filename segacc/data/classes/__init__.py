"""Classes: files that say which classes a data set has, and how its masks are coded."""
