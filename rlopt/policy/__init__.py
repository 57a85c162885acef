"""Policies: networks and their initialisation, normalisers, fast inference, and the export of a trained policy."""
