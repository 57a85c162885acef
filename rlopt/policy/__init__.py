"""Policies and value functions: networks, their initialisation, and what is done to observations and rewards."""
