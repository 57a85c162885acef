"""What networks with memory cannot be combined with, and what to type instead."""

import pytest

from rlopt.errors import UserError
from tests.support.building import resolve

REFUSED = {
    "schedule.sequence=8": "schedule.sequence has no effect: this network has no memory",
    "policy=gru schedule.sequence=7": "sequence=7 must divide batch_size / env.num_envs = 256; try schedule.sequence=8",
    "policy=gru algo=ppo schedule.sequence=32 schedule.minibatch=80": "=32 must divide schedule.minibatch=80; try .*=16",
    "policy=gru algo=ppo schedule.sequence=null schedule.minibatch=80": "=null, here the 256 steps of a whole rollout,",
    "policy=gru solver=gram": "reads each sample's own gradient .* These can: .*solver=cg, .*solver=kfac",
    "policy=gru solver.preconditioner=diagonal solver=cg": "reads each sample's own gradient",
    "policy=gru solver=low_rank solver.remainder=diagonal": "solver=low_rank reads .* can: solver.remainder=none, ",
    "policy=gru solver=block solver.centred=true": "solver=block reads .* can: solver.centred=false, ",
    "critic=gru critic.metric=fisher critic.solver=kfra critic.step=kl_clip": "critic.solver=kfra reads each sample's",
    "critic=lstd policy=lstm algo=nac": "critic=lstd reads every sample by itself",
    "policy=gru policy.horizon=1": "policy.horizon must be 2 steps or above; got 1",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_memory_cannot_serve_is_refused(typed):
    with pytest.raises(UserError, match=REFUSED[typed]):
        resolve(["env=cartpole", *typed.split()])


def test_a_solver_that_is_refused_is_not_among_those_that_can():
    for typed in ("solver", "solver=cg solver.preconditioner"):
        inner = typed.rpartition(" ")[2]
        given = [
            "policy=gru",
            *f"{typed}=low_rank".split(),
            f"{inner}.remainder=mean",
            f"{inner}.rank=30",
            f"{inner}.products=40",
        ]
        with pytest.raises(UserError, match=f"{inner}=low_rank reads .* can: {inner}.remainder=none, ") as raised:
            resolve(["env=cartpole", *given])
        instead = str(raised.value).partition("can: ")[2].split(", ")
        assert f"{inner}=low_rank" not in instead and f"{inner}=nystrom" in instead
        resolve(["env=cartpole", *given, instead[0]])


def test_a_rollout_shorter_than_a_sequence_is_one():
    assert resolve(["env=cartpole", "policy=gru", "batch_size=40", "env.num_envs=4"])["schedule"]["sequence"] == 16
