"""The catalogue: which parts go together, and how they are typed."""

import pytest

from rlopt.config import catalogue
from rlopt.config.choices import parts
from rlopt.core.parts import PRODUCT, ROOT
from rlopt.errors import UserError


def test_a_pair_is_listed_if_the_metric_supplies_the_needs():
    found = catalogue.pairs()
    assert [name for name, _, _ in found] == parts("metric")
    for _, metric, solvers in found:
        for name in parts("solver"):
            assert (name in solvers) == (catalogue.make_part("solver", name).needs <= metric.supplies), name


def test_pairs_may_be_chosen_and_unknown_ones_are_named():
    ((name, _, solvers),) = catalogue.pairs(["fisher"], ["cg", "kfac"])
    assert name == "fisher" and list(solvers) == ["cg", "kfac"]
    with pytest.raises(UserError, match="there is no metric 'fishr'.*did you mean fisher"):
        catalogue.pairs(["fishr"])
    with pytest.raises(UserError, match="none of the solvers kfac works with any of the metrics hessian"):
        catalogue.pairs(["hessian"], ["kfac"])


def test_solvers_for_a_metric_can_serve_it():
    metric = catalogue.make_part("metric", "hessian")
    served = catalogue.solvers_for(metric)
    assert "cg" in served and "kfac" not in served
    assert set(catalogue.solvers_for(metric, one_rank=False)) <= set(served)


def test_choices_are_worded_as_one_types_them():
    assert catalogue.typed_choices("solver", ["cg", "dense"], "critic.") == "critic.solver=cg, critic.solver=dense"
    assert [catalogue.either(list(names)) for names in ("a", "ab", "abc")] == ["a", "a or b", "a, b or c"]
    assert "fisher" in catalogue.metrics_supplying(ROOT, PRODUCT)
    assert catalogue.describe_need(PRODUCT, "") == "products of the metric with vectors"
    assert catalogue.compatible_critics().startswith("critic=")
