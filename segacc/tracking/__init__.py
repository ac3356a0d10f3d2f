"""Tracking: what a run sends to W&B, trackio or TensorBoard, and the dashboard in W&B."""
