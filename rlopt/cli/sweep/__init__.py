"""`rlopt train -m`: one run for every combination of values."""
