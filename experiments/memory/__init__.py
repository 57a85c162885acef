"""Memory: what a GRU learns where observations hide what matters, and what a policy without one does not."""
