"""Tapes: the record of one forward pass, and its products with the Jacobian."""
