"""Data sets whose images and masks lie in rows, which the `datasets` library loads."""
