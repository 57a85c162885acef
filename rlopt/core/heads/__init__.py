"""Heads: from network outputs to distributions, with scores, Fisher information and KL in closed form."""

from rlopt.core.heads.bernoulli import Bernoulli
from rlopt.core.heads.beta import Beta
from rlopt.core.heads.categorical import Categorical
from rlopt.core.heads.diagonal_gaussian import DiagonalGaussian
from rlopt.core.heads.full_gaussian import FullGaussian
from rlopt.core.heads.gsde import GSDE
from rlopt.core.heads.head import Head
from rlopt.core.heads.joint import Joint
from rlopt.core.heads.multi_categorical import MultiCategorical
from rlopt.core.heads.product import Product
from rlopt.core.heads.value import Value

__all__ = [
    "GSDE",
    "Bernoulli",
    "Beta",
    "Categorical",
    "DiagonalGaussian",
    "FullGaussian",
    "Head",
    "Joint",
    "MultiCategorical",
    "Product",
    "Value",
]
