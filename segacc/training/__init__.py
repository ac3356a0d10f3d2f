"""Training: the loop, and all that only a training needs: losses, optimizer, states."""
