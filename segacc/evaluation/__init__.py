"""Evaluation: scores of a trained model on a split, and of several models side by side."""
