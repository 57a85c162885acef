"""A run: the training loop, what it records and saves, and the evaluation of what it saved."""
