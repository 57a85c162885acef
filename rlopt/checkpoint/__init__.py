"""Checkpoints: their file format, when they are written, what they hold, and when a run may resume."""
