"""Runtime: devices, processes, threads and signals; what a run needs of the machine."""
