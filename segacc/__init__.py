"""segacc: fine-tune any semantic-segmentation model on any image/mask set with one loop."""

__version__ = "0.1.0"
