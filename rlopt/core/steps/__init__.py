"""Steps: how far to go along the direction, and whether to go at all. One file each."""
