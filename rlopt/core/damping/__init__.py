"""Damping: how lambda is chosen. One file each."""
