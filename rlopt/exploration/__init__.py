"""Exploration: intrinsic rewards, which are added to what the environment gives. See `rlopt.guide.exploring`."""
