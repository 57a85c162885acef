"""Objectives: what g is the gradient of. One file each."""
