"""Prediction: logits of whole images, and masks written to files."""
