"""Environments: how one is made, checked, stepped, replayed and watched."""
