"""What `benchmarks.throughput` compares: each trains when it has its turn, an epoch at a time."""
