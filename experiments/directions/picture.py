"""Two parameters, one picture: a Gaussian policy a ~ N(k s, sigma^2), theta = (k, sigma), paid once for each action.

    r = exp(-(a - k* s)^2 / 2 w^2)        J = mean_s w / v exp(-s^2 (k - k*)^2 / 2 v^2),  v^2 = w^2 + sigma^2

Expectations over actions are Gauss-Hermite quadrature, fed to rlopt's core as weighted samples, so that the surrogate's
gradient and Hessian at theta are those of J. Every step d = alpha (M + lambda I)^-1 g has the same first-order gain
g^T d = GAIN; its trust region is the ellipse d^T (M + lambda I) d = GAIN^2 / g^T x, which touches the line g^T d = GAIN
at the step's end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from experiments._shared import policies
from rlopt.core.damping.constant import Constant
from rlopt.core.heads import DiagonalGaussian
from rlopt.core.network import Network
from rlopt.core.samples import Samples
from rlopt.core.update import Update

SIX = ("identity", "gauss_newton", "empirical_fisher", "gradient_covariance", "hessian", "ggn")
K_STAR, WIDTH = 1.0, 1.0
STATES = np.array([0.5, 1.5, 2.5])
NEAR, FAR = (0.7, 0.4), (0.1, 0.5)  # theta where minus the Hessian of J is positive definite, and where it is not
GAIN, DAMPING, NODES = 0.04, 1e-3, 80


def J(k: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Expected reward in closed form; arrays of one shape."""
    v2 = WIDTH**2 + sigma**2
    each = [np.exp(-((s * (k - K_STAR)) ** 2) / (2 * v2)) * WIDTH / np.sqrt(v2) for s in STATES]
    return np.mean(each, axis=0)


@torch.no_grad()
def point(k: float, sigma: float, scale: str = "sigma") -> policies.Point:
    """theta = (k, sigma), or (k, log sigma), with the quadrature's actions as its batch."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    s, t = (grid.ravel() for grid in np.meshgrid(STATES, nodes, indexing="ij"))
    actions = torch.from_numpy(k * s + sigma * t)[:, None]
    weight = torch.from_numpy(np.tile(weights / weights.sum(), len(STATES)))
    reward = torch.from_numpy(np.exp(-((actions[:, 0].numpy() - K_STAR * s) ** 2) / (2 * WIDTH**2)))
    value = (reward * weight).view(len(STATES), NODES).sum(1).repeat_interleave(NODES)
    head = DiagonalGaussian(1, scale=scale)
    network = Network(nn.Sequential(nn.Linear(1, 1, bias=False, dtype=torch.float64)), head.constants)
    theta = torch.tensor([k, sigma if scale == "sigma" else np.log(sigma)], dtype=torch.float64)
    inputs = torch.from_numpy(s)[:, None]
    z = network.outputs(theta, inputs)
    samples = Samples(inputs, actions, weight, reward - value, z, head.log_prob(z, actions))
    update = Update(network, head, policies.part("objective", "surrogate"), policies.part("metric", "identity"),
                    policies.part("solver", "identity"), Constant(0.0), step=None)  # fmt: skip
    return policies.at(update, theta, samples)


@dataclass(frozen=True)
class Step:
    """One metric's matrix (2, 2), its step d (2,) with g^T d = +-GAIN, and d^T (M + lambda I) d of its ellipse."""

    metric: str
    matrix: np.ndarray
    d: np.ndarray
    cosine: float
    size: float


def steps(where: tuple[float, float], damping: float = DAMPING) -> tuple[np.ndarray, list[Step]]:
    """g (2,) and a step for each of SIX, exactly solved: without rlopt's safeguards against an indefinite M."""
    at = point(*where)
    return at.g.numpy(), [step(at, metric, damping) for metric in SIX]


@torch.no_grad()
def step(at: policies.Point, metric: str, damping: float) -> Step:
    M = at.curvature(metric).dense() + (0 if metric == "identity" else damping) * torch.eye(2).double()
    x = torch.linalg.solve(M, at.g)
    slope = torch.dot(at.g, x)
    d = x * GAIN / slope.abs()
    return Step(metric, M.numpy(), d.numpy(), policies.cosine(x, at.g), float(GAIN**2 / slope))


@torch.no_grad()
def absolute(at: policies.Point, metric: str, damping: float) -> Tensor:
    """x (2,) with the eigenvalues' absolute values."""
    return policies.solve(policies.part("solver", "dense", indefinite="absolute"), at.curvature(metric), at.g, damping)


@torch.no_grad()
def mean_score(at: policies.Point) -> float:
    """|E s| over sqrt(E |s|^2), s the score in theta of an action of the policy's own; exactly 0 in theory."""
    _, s = at.update.head.log_prob_and_score(at.tape.outputs, at.samples.actions)
    spread = torch.trace(at.curvature("empirical_fisher").dense())
    return float(at.tape.vjp(s * at.samples.share[:, None]).norm() / spread.sqrt())


@torch.no_grad()
def invariance(metric: str, length: float = 1e-3) -> tuple[float, float]:
    """How far the steps in (k, sigma) and (k, log sigma) differ as policies: in direction, and after one step.

    Both relative to the step in (k, sigma); its length is 1e-3 alpha, then alpha, with g^T d = GAIN.
    """
    k, sigma = NEAR
    plain, logged = point(k, sigma), point(k, sigma, "log_sigma")
    x, y = (torch.linalg.solve(p.curvature(metric).dense(), p.g) for p in (plain, logged))
    alpha = float(GAIN / torch.dot(plain.g, x))
    found = []
    for a in (length * alpha, alpha):
        first = np.array([k + a * float(x[0]), sigma + a * float(x[1])])
        second = np.array([k + a * float(y[0]), sigma * np.exp(a * float(y[1]))])
        found.append(float(np.linalg.norm(first - second) / np.linalg.norm(first - (k, sigma))))
    return found[0], found[1]


@torch.no_grad()
def ball(where: tuple[float, float], metric: str, damping: float, points: int = 20_000) -> float:
    """Radians between x = (M + lambda I)^-1 g and the best d of length |x| for the model g^T d - d^T M d / 2.

    Of ``points`` on a circle. Inside it no point does better, M + lambda I being positive definite and lambda >= 0.
    """
    at = point(*where)
    M, g = at.curvature(metric).dense().numpy(), at.g.numpy()
    x = np.linalg.solve(M + damping * np.eye(2), g)
    turn = np.linspace(-np.pi, np.pi, points)
    d = np.linalg.norm(x) * np.array([np.cos(turn), np.sin(turn)])
    model = g @ d - 0.5 * np.einsum("in,ij,jn->n", d, M, d)
    apart = np.arctan2(x[1], x[0]) - turn[model.argmax()]
    return float(abs((apart + np.pi) % (2 * np.pi) - np.pi))
