"""Estimators: how g is estimated from a batch, and from batches before it. One file each."""
