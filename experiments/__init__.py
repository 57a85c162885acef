"""Experiments: each is a folder with a page, data in results/ and figures; `python -m experiments.NAME` makes them."""
