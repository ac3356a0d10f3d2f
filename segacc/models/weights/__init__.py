"""Weights: pretrained ones by name, of files and folders, and of trained models."""
