"""Which files are images and which are their masks, by what their names and contents share."""
