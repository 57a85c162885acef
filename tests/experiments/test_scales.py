"""The study of units: what its page says of the results beside it."""

from experiments._shared.data import read_rows
from experiments.scales import __main__ as scales

LEARNED = ("vpg", "npg", "nac", "trpo", "ppo", "newton", "ggn")  # CartPole, within 20,000 steps


def cells(name: str) -> dict[tuple[str, str], list[str]]:
    """(environment, preset) -> a row of the table."""
    lines = list(scales.table(read_rows(scales.HERE / f"results/{name}.csv")))[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {(env, preset): values for env, preset, *values in rows}


def test_every_preset_was_trained_in_every_unit():
    for name in ("before", "after"):
        found = cells(name)
        assert found.keys() == {(env, preset) for env in scales.ENVS for preset in scales.PRESETS}
        assert all(
            len(values) == 6 and "-" not in values and "stopped" not in "".join(values) for values in found.values()
        )


def test_what_was_learned_is_the_same_in_every_unit():
    before, after = cells("before"), cells("after")
    for preset in LEARNED:
        assert set(after["cartpole", preset]) == {"500"}
        assert len(set(before["cartpole", preset])) > 1


def test_rewards_times_1000_kept_seven_presets_from_learning():
    rows = {preset: cells("before")["cartpole", preset] for preset in scales.PRESETS}
    at = scales.UNITS.index(("reward", 1e3))
    kept = [preset for preset, row in rows.items() if float(row[at]) < 0.6 * float(row[0])]
    assert len(kept) == 7 and "seven of eleven" in (scales.HERE / "README.md").read_text()
    at = scales.UNITS.index(("observation", 1e-6))
    assert all(float(row[at]) < 0.4 * max(map(float, row)) for row in rows.values())


def test_the_page_shows_the_tables_of_the_results():
    page = (scales.HERE / "README.md").read_text()
    for name in ("before", "after"):
        assert "\n".join(scales.table(read_rows(scales.HERE / f"results/{name}.csv"))) in page
    assert "\n".join(scales.mujoco_table(scales.HERE / "results")) in page


def test_a_scaled_environment_is_the_same_in_another_unit():
    plain, other = (scales._make("CartPole-v1", "observation", unit) for unit in (1.0, 1e6))
    a, b = plain.reset(seed=1)[0], other.reset(seed=1)[0]
    assert (abs(b / 1e6 - a) < 1e-6).all()
    rewarded = scales._make("CartPole-v1", "reward", 1e3)
    rewarded.reset(seed=1)
    assert rewarded.step(0)[1] == 1000
