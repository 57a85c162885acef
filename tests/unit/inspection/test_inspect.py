"""What rlopt inspect finds, against dense oracles: cosines, prediction and truth, spectra, and what fails."""

import contextlib
import io
import json

import pytest
import torch

from rlopt.cli import main as cli
from rlopt.config import check_config
from rlopt.config.catalogue import make_part, pairs
from rlopt.config.choices import parts
from rlopt.config.saved import load
from rlopt.core.checks import NumericalFailure
from rlopt.core.parts import Requirements
from rlopt.inspection.inspect import inspect
from rlopt.training.factory import set_up
from rlopt.training.restore import fresh_samples, restore_run
from tests.support import oracles
from tests.support.inspecting import DAMPING, RADIUS, RUNS, SAMPLES, SMALL, directions
from tests.support.probes import make_trainer


def allowed() -> list[tuple[str, str]]:
    made = {(group, name): make_part(group, name) for group in ("metric", "solver") for name in parts(group)}
    return [
        (m, s)
        for m in parts("metric")
        for s in parts("solver")
        if made["solver", s].needs <= made["metric", m].supplies
    ]


@pytest.fixture(scope="module", params=list(RUNS))
def inspected(request, folders) -> dict:
    """What the command prints and leaves, at one radius and damping."""
    folder = folders[request.param]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = cli.main(["inspect", str(folder), f"--samples={SAMPLES}", f"--radius={RADIUS}", f"--damping={DAMPING}"])
    assert code == 0
    data = json.loads((folder / "inspect.json").read_text())
    return {"name": request.param, "folder": folder, "out": out.getvalue(), "data": data}


def test_every_allowed_pair_is_listed_once(inspected):
    rows, metric = [], None
    table = inspected["out"].partition("gain: improvement of the objective")[0]
    for line in table.splitlines():
        words = line.split()
        if words and words[0] in parts("metric") and not line.startswith(" "):
            metric, words = words[0], words[3:]
        if words and words[0] in parts("solver") and metric:
            rows.append((metric, words[0]))
    assert rows == allowed()
    assert [(d["metric"], d["solver"]) for d in inspected["data"]["directions"]] == allowed()
    assert [s["metric"] for s in inspected["data"]["spectra"]] == parts("metric")


def test_the_figure_is_drawn(inspected):
    assert (inspected["folder"] / "inspect.png").read_bytes().startswith(b"\x89PNG")


def test_every_step_goes_equally_far_by_prediction_and_nearly_so(inspected):
    for pair, d in directions(inspected["data"]).items():
        assert d["failure"] is None, pair
        assert d["kl_predicted"] == pytest.approx(RADIUS, rel=1e-9), pair
        assert 0 < d["kl"] < 10 * RADIUS, pair
        assert d["milliseconds"] > 0, pair
        assert d["peak_bytes"] > 0 or pair == ("identity", "identity"), pair  # which gives back what it is given


def test_cosines_of_what_is_exact_are_one(inspected):
    found = directions(inspected["data"])
    assert found["identity", "identity"]["cosine_gradient"] == pytest.approx(1, abs=1e-12)
    for metric in ("fisher", "gauss_newton", "empirical_fisher", "identity"):
        dense = found[metric, "dense"]
        assert dense["cosine_exact"] == pytest.approx(1, abs=1e-10)
        assert dense["damping"] == DAMPING
    assert found["fisher", "diagonal"]["cosine_exact"] < 1 - 1e-4
    assert found["fisher", "dense"]["cosine_gradient"] < 1 - 1e-4


def case_of(inspected) -> oracles.Case:
    """The policy and the batch again, for the oracles."""
    run, _ = restore_run(check_config(load(inspected["folder"] / "config.yaml")), inspected["folder"])
    samples = fresh_samples(run, SAMPLES, run.config.seed)
    network = run.agent.actor.update.network
    return oracles.Case(network.module, network, run.agent.head, run.state["actor"]["theta"], samples)


def test_cosines_prediction_and_truth_agree_with_dense_oracles(inspected):
    case = case_of(inspected)
    g, F = oracles.gradient(case, "surrogate"), oracles.fisher(case)
    found = directions(inspected["data"])
    for metric, solver, M in (("fisher", "dense", F), ("identity", "identity", torch.zeros_like(F))):
        x = torch.linalg.solve(M + DAMPING * oracles.eye(len(g)), g)
        alpha = (2 * RADIUS / (x @ F @ x)) ** 0.5
        theta = case.theta + alpha * x
        with torch.no_grad():
            gain = oracles.objective(case, "surrogate", theta) - oracles.objective(case, "surrogate", case.theta)
            kl = oracles.mean_kl(case, theta)
        d = found[metric, solver]
        assert d["improvement_predicted"] == pytest.approx(float(alpha * g @ x), rel=1e-7)
        assert d["improvement"] == pytest.approx(float(gain), rel=1e-7)
        assert d["kl"] == pytest.approx(float(kl), rel=1e-7)
        assert d["cosine_gradient"] == pytest.approx(float(g @ x / (g.norm() * x.norm())), rel=1e-7)
    x = torch.linalg.solve(F + DAMPING * oracles.eye(len(g)), g)
    diagonal = g / (F.diagonal() + DAMPING)
    cosine = float(diagonal @ x / (diagonal.norm() * x.norm()))
    assert found["fisher", "diagonal"]["cosine_exact"] == pytest.approx(cosine, rel=1e-7)
    assert inspected["data"]["gradient_norm"] == pytest.approx(float(g.norm()))


def test_spectra_are_those_of_the_dense_matrix(inspected):
    mu = torch.linalg.eigvalsh(oracles.fisher(case_of(inspected)))
    fisher = next(s for s in inspected["data"]["spectra"] if s["metric"] == "fisher")
    assert fisher["eigenvalues"][:5] == pytest.approx(mu.flip(0)[:5].tolist(), rel=1e-6)
    assert fisher["largest"] == fisher["eigenvalues"][0] and fisher["negative"] == 0
    above = mu[mu > 1e-10 * mu[-1]]
    assert fisher["smallest"] <= float(above[0]) * 1.001
    assert fisher["condition"] == pytest.approx(fisher["largest"] / fisher["smallest"])


def test_a_fresh_batch_is_whole_steps_and_not_the_runs_own(inspected):
    config = load(inspected["folder"] / "config.yaml")
    run = make_trainer(*SMALL, *RUNS[inspected["name"]])
    own = run.collector.collect(run.agent.policy(run.state)).inputs[0]
    run.collector.close()
    start = set_up(check_config(config))
    fresh = [fresh_samples(start, SAMPLES, seed).inputs[:8] for seed in (0, 0, 1)]
    assert inspected["data"]["samples"] == 64  # of 8 environments
    assert torch.equal(fresh[0], fresh[1])
    assert not any(torch.equal(fresh[0], other) for other in (own, fresh[2]))


class Broken:
    """A metric or solver that fails wherever it is asked for something."""

    supplies = frozenset()
    requirements = Requirements()

    def init(self):
        return {}

    def bind(self, *_):
        raise NumericalFailure("no metric\ntoday")

    def prepare(self, *_):
        raise RuntimeError("no solver")


class Endless(Broken):
    def prepare(self, state, curvature, damping):
        def solve(g):
            return type("Solution", (), {"x": g * torch.inf})()

        return solve, state


def test_what_fails_does_not_stop_the_others(folders):
    run, _ = restore_run(check_config(load(folders["cartpole"] / "config.yaml")), folders["cartpole"])
    (name, identity, solvers), told = pairs(["identity"], ["identity"])[0], []
    found = inspect(
        run.agent.actor.update, run.state["actor"]["theta"], fresh_samples(run, SAMPLES, 0),
        [("broken", Broken(), {"a": Broken(), "b": Broken()}),
         (name, identity, {"c": Broken(), "d": Endless(), **solvers})],
        DAMPING, RADIUS, lambda done, text: told.append((done, text)),
    )  # fmt: skip
    reasons = {(d.metric, d.solver): d.failure for d in found.directions}
    assert reasons == {
        ("broken", "a"): "no metric today", ("broken", "b"): "no metric today", ("identity", "c"): "no solver",
        ("identity", "d"): "the direction is not finite", ("identity", "identity"): None,
    }  # fmt: skip
    assert [s.failure for s in found.spectra] == ["no metric today", None]
    assert told == [
        (0, "metric=broken"),
        (2, "metric=identity"),
        *((2 + i, f"metric=identity solver={s}") for i, s in enumerate(["c", "d", "identity"])),
    ]
