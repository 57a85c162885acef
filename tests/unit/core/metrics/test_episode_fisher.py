"""The Fisher metric of whole episodes against sums over each episode, written out."""

from dataclasses import replace

import pytest
import torch

from rlopt.core.metrics.episode_fisher import EpisodeFisher
from tests.support.experiences import made, scores
from tests.support.oracles import Case, close, eye


def bound(case: Case, samples) -> torch.Tensor:
    """(P, P)."""
    curvature, state = EpisodeFisher().bind({}, case.tape, case.head, samples, None)
    assert state == {}
    return torch.stack([curvature.product(e) for e in eye(len(case.theta))], 1)


@pytest.mark.parametrize("weights", ["uniform", "discounted"])
@pytest.mark.parametrize("head", ["log_sigma", "categorical"])
def test_it_is_the_sum_of_squares_of_each_episodes_summed_scores(head, weights):
    case, experience = made(head, weights=weights)
    samples, psi = experience.samples, torch.from_numpy(scores(case))
    wanted = torch.zeros(len(case.theta), len(case.theta), dtype=torch.float64)
    for name in samples.episode.unique():
        here = samples.episode == name
        whole = (samples.weight[here, None] * psi[here]).sum(0)
        wanted += torch.outer(whole, whole)
    M = bound(case, samples)
    assert close(M, wanted / samples.weight.sum(), 1e-11)
    assert close(M, M.T, 1e-12) and float(torch.linalg.eigvalsh(M)[0]) > -1e-12


def test_the_names_of_episodes_do_not_matter():
    case, experience = made()
    renamed = replace(experience.samples, episode=1000 - 7 * experience.samples.episode)
    assert close(bound(case, renamed), bound(case, experience.samples), 1e-13)


def test_samples_without_episodes_are_refused():
    case, experience = made()
    with pytest.raises(ValueError, match="which episode each sample belongs to"):
        bound(case, replace(experience.samples, episode=None))
