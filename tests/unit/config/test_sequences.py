"""What networks with memory cannot be combined with, and what to type instead."""

import pytest

from rlopt.errors import UserError
from tests.support.building import resolve

REFUSED = {
    "schedule.sequence=8": "schedule.sequence has no effect: this network has no memory",
    "policy=gru schedule.sequence=7": "schedule.sequence=7 is 7 steps, .* = 256 .* try schedule.sequence=8",
    "policy=gru algo=ppo schedule.sequence=32 schedule.minibatch=80": "try schedule.sequence=16",
    "policy=gru solver=gram": "reads each sample's own gradient .* These can: .*solver=cg, .*solver=kfac",
    "policy=gru solver.preconditioner=diagonal solver=cg": "reads each sample's own gradient",
    "critic=gru critic.metric=fisher critic.solver=kfra critic.step=kl_clip": "critic.solver=kfra reads each sample's",
    "critic=lstd policy=lstm algo=nac": "critic=lstd reads every sample by itself",
    "policy=gru policy.horizon=1": "policy.horizon must be 2 steps or above; got 1",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_memory_cannot_serve_is_refused(typed):
    with pytest.raises(UserError, match=REFUSED[typed]):
        resolve(["env=cartpole", *typed.split()])


def test_a_rollout_shorter_than_a_sequence_is_one():
    assert resolve(["env=cartpole", "policy=gru", "batch_size=40", "env.num_envs=4"])["schedule"]["sequence"] == 16
