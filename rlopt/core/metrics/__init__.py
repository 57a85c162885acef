"""Metrics: what distance between two parameter vectors means. One file each."""
