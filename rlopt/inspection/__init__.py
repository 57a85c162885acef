"""`rlopt inspect`: compares the directions of every metric and solver at one policy."""
