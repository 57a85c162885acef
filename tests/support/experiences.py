"""Experience of a few environments whose episodes end in every way, and its scores."""

import numpy as np
import torch

from rlopt.core.compatible.critic import Experience
from rlopt.core.samples import Samples
from tests.support.densities import log_prob
from tests.support.oracles import Case, jacobian, make_case, outputs, randn

T, E, N = 10, 3, 4
GAMMA = 0.9
ENDS = {(2, 0): "terminated", (6, 0): "truncated", (4, 1): "truncated", (8, 1): "terminated"}  # environment 2 goes on


def scores(case: Case) -> np.ndarray:
    """(B, P) of log p in theta, by autograd."""
    z = outputs(case.module, case.theta, case.samples.inputs).detach().requires_grad_()
    (s,) = torch.autograd.grad(log_prob(case.head, z, case.samples.actions).sum(), z)
    return torch.einsum("bo,bop->bp", s, jacobian(case)).numpy()


def made(
    head: str = "log_sigma", tape: str = "mlp", hidden: tuple[int, ...] = (), weights: str = "discounted"
) -> tuple[Case, Experience]:
    """Episodes of several lengths in three environments; (3 + 1) 2 + 2 = 10 parameters without hidden layers."""
    case = make_case(head, tape, count=T * E, hidden=hidden)
    terminated, done = torch.zeros(T, E, dtype=torch.bool), torch.zeros(T, E, dtype=torch.bool)
    time, episode = torch.zeros(T, E, dtype=torch.long), torch.zeros(T, E, dtype=torch.long)
    for e in range(E):
        t0, name = 0, e
        for t in range(T):
            time[t, e], episode[t, e] = t - t0, name
            if (t, e) in ENDS:
                done[t, e], terminated[t, e] = True, ENDS[t, e] == "terminated"
                t0, name = t + 1, name + E
    weight = GAMMA ** time.flatten().double() if weights == "discounted" else torch.ones(T * E).double()
    samples = Samples(
        inputs=case.samples.inputs,
        actions=case.samples.actions,
        weight=weight,
        old_outputs=case.tape.outputs,
        time=time.flatten(),
        episode=episode.flatten(),
    )
    phi, following = randn(T, E, N, seed=20), randn(T, E, N, seed=21)
    phi[..., 0] = 1
    following = following * ~terminated[..., None]
    experience = Experience(
        case.tape, case.head, samples, randn(T, E, seed=22), done, phi.view(-1, N), following.view(-1, N)
    )
    return case, experience
