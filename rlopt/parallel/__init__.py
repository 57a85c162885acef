"""Many processes, one run: collectives, the ranks that torchrun starts, and child processes."""
