"""The programs that `benchmarks.throughput` compares; they train in turns."""
