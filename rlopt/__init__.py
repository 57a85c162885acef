"""rlopt: policy-gradient training where the geometry of the update is a choice.

theta <- theta + alpha (M(theta) + lambda I)^-1 g
"""

__version__ = "0.1.0"
