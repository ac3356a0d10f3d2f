"""Saving: states to resume from and the best model, written beside the training."""
