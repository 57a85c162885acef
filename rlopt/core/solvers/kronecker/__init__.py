"""What K-FAC, E-KFAC and KFRA share: Kronecker factors, their eigenbasis and their inverses."""
