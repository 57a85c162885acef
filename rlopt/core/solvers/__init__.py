"""Solvers: how (M + lambda I) x = g is solved, and with which structure. One file each."""
