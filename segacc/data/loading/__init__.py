"""Loading: the order of the samples, their augmentation, and the batches of each process."""
