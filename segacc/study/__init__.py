"""Study: one run for each cell of the study's table, spread over the GPUs, and the table."""
