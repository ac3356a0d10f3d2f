"""Data: images and masks from any source, prepared once, and the batches made of them."""
