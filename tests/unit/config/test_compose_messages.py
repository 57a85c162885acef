"""What cannot be composed is refused in one line that says what to type."""

import pytest


@pytest.mark.parametrize(
    "typed, said",
    [
        ("lr=3", "there is no option lr; here it is optimizer.lr and critic.optimizer.lr"),
        ("env=CartPole-v1", "no such env (did you mean cartpole?); env is one of"),
        ("env=cartpol", "mountain_car_continuous, pendulum, pendulum_position, pettingzoo, reacher, swimmer, t_maze, walker2d\n"),
        ("critic.damping=levenberg_marquardt", "so critic.metric must be average, fisher, ggn or hessian, or critic.damping "),
        ("solver=power", "it needs metric=gradient_history. "),
        ("critic.metric=fisher critic.solver=identity", "it needs critic.metric=identity. "),
        ("env.id=FrozenLake-v1 observations.normalise=true", "observations.normalise=true has no effect: FrozenLake-v1"),
        ("critic.compatible.ridge=1", "it is an option of critic=episodic and critic=lstd"),
        *((f"--cfg {name}", "such as --cfg algo=ppo") for name in ("job", "all")),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("elsewhere")
def test_a_message_says_what_to_type(run, typed, said):
    code, out, err = run("train", *typed.split())
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
