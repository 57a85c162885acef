"""An update from a game whose agents end at different times is the update from the rows of living agents alone."""

from dataclasses import replace

import pytest
import torch

from rlopt.rollout.buffer import Rollout
from tests.support.games import Alone, Fading, make_trainer

pytestmark = pytest.mark.usefixtures("elsewhere")
WHOLE = ["schedule.minibatch=null", "critic.schedule.minibatch=null"]
ALGORITHMS = {
    "ppo": ["algo=ppo", *WHOLE],
    "trpo": ["algo=trpo", *WHOLE],
    "acktr": ["algo=acktr", "metric.samples=null"],
    "a critic of the policy's": ["algo=ppo", "critic=shared", "schedule.minibatch=null", "advantages.recompute=false"],
}
SMALL = ["dtype=float64", "policy.hidden=[6]", "critic.hidden=[5]", "evaluation.episodes=0", "env.num_envs=5"]
LEFT_OUT = ["critic.hidden=[5]"]  # of the shared critic


def typed(name: str) -> list[str]:
    shared = "critic=shared" in ALGORITHMS[name]
    return [*ALGORITHMS[name], *(o for o in SMALL if not (shared and o in LEFT_OUT))]


def living_alone(batch: Rollout) -> Rollout:
    """One environment that lives through the living agents' episodes one after another.

    An episode that goes on after the rollout is truncated there: its value is then that of the same observation.
    """
    T, E = batch.rewards.shape
    rows, ends, cuts, final = [], [], [], []
    places = {(t, e): i for i, (t, e) in enumerate(zip(*(x.tolist() for x in batch.final_index), strict=True))}
    raw_next = torch.cat([batch.observations, batch.following])
    for e in range(E):
        for t in (t for t in range(T) if batch.mask[t, e]):
            rows.append((t, e))
            last = t == T - 1 and not batch.done[t, e]
            ends.append(bool(batch.terminated[t, e]))
            cuts.append(bool(batch.truncated[t, e]) or last)
            if cuts[-1]:
                at = places.get((t, e))
                pair = (batch.inputs[t + 1, e], raw_next[t + 1, e]) if last else (batch.final[at], batch.raw_final[at])
                final.append((len(rows) - 1, *pair))
    t, e = (torch.tensor(column) for column in zip(*rows, strict=True))

    def of(x: torch.Tensor) -> torch.Tensor:
        return x[t, e][:, None]

    inputs, raw = ([row[i] for row in final] for i in (1, 2))
    where = torch.tensor([row[0] for row in final])
    return Rollout(
        inputs=torch.cat([of(batch.inputs), batch.inputs[-1:, :1]]),
        following=batch.following[:, :1],
        terminated=torch.tensor(ends)[:, None],
        truncated=torch.tensor(cuts)[:, None],
        mask=torch.ones(len(rows), 1, dtype=batch.mask.dtype),
        final=torch.stack(inputs),
        raw_final=torch.stack(raw),
        final_index=(where, torch.zeros_like(where)),
        **{
            name: of(getattr(batch, name))
            for name in ("observations", "actions", "outputs", "rewards", "time", "episode")
        },
    )


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_dead_agents_have_no_part_in_an_update(name, scaled):
    """The oracle has one environment and no mask.

    Of scaled rewards there is one update, since the oracle begins every episode with a discounted return of 0; without
    there are two, and in the second the observations' normaliser has seen the first.
    """
    game = make_trainer(Fading, *typed(name), "env.kwargs={late: 2}", "batch_size=300", f"rewards.scale={scaled}")
    state = game.state
    for _ in range(1 if scaled else 2):
        batch = game.collector.collect(game.agent.policy(state))
        assert 0.2 < 1 - batch.mask.mean() < 0.8
        alone = living_alone(batch)
        overrides = [o for o in typed(name) if "num_envs" not in o]
        sizes = "env.num_envs=1", f"batch_size={len(alone.rewards)}"
        one = make_trainer(Alone, *overrides, *sizes, f"rewards.scale={scaled}")
        returns = {**state["rewards"], "returns": torch.zeros(1, dtype=torch.float64)} if state["rewards"] else {}
        begun = {**state, "rewards": returns}
        assert torch.equal(one.state["actor"]["theta"], game.state["actor"]["theta"])
        state, result = game.agent.learn(state, batch, torch.Generator().manual_seed(1))
        other, expected = one.agent.learn(begun, alone, torch.Generator().manual_seed(1))
        assert result.failure is None and expected.failure is None
        for network in game.agent.learners:
            mine, theirs = state[network]["theta"], other[network]["theta"]
            assert (mine - begun[network]["theta"]).abs().max() > 1e-4
            assert (mine - theirs).abs().max() < 1e-12
        for key in ("count", "mean", "variance"):
            torch.testing.assert_close(state["observations"][key], other["observations"][key], rtol=1e-12, atol=1e-12)
        assert result.scalars["critic/loss"] == pytest.approx(expected.scalars["critic/loss"], rel=1e-10)


@pytest.mark.parametrize("policy", ["mlp", "gru"])
def test_what_stands_in_the_rows_of_dead_agents_has_no_effect(policy):
    memory = ["policy=gru", "critic=gru", "policy.size=4", "critic.size=4", "schedule.sequence=5",
              "schedule.minibatch=20", "critic.schedule.sequence=5", "critic.schedule.minibatch=20"]  # fmt: skip
    run = make_trainer(Fading, "algo=ppo", *SMALL, *(memory if policy == "gru" else []), "batch_size=300")
    batch = run.collector.collect(run.agent.policy(run.state))
    dead = batch.mask == 0
    noise = {name: getattr(batch, name).clone() for name in ("rewards", "outputs", "actions")}
    noise["rewards"][dead], noise["actions"][dead] = 1e3, 2
    noise["outputs"][dead] += 0.5
    spoiled = replace(batch, **noise)
    found = [run.agent.learn(run.state, b, torch.Generator().manual_seed(1))[0] for b in (batch, spoiled)]
    for network in ("actor", "critic"):
        difference = (found[0][network]["theta"] - found[1][network]["theta"]).abs().max()
        assert difference == 0 if policy == "mlp" else difference < 1e-12
