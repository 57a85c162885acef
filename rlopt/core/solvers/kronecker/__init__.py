"""Kronecker factors, their eigenbasis and their inverses, for K-FAC, E-KFAC and KFRA."""
