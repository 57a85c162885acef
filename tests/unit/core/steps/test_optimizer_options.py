"""What may be asked of torch's optimizers, and what is refused."""

import pytest
import torch

from rlopt.core.steps.fixed import Fixed
from rlopt.core.steps.optimizer import Optimizer
from rlopt.core.steps.trust_region import TrustRegion
from tests.support.oracles import close, make_case, randn
from tests.support.stepping import CONSTANT, OPTIMIZERS, configured, take


def test_max_norm_is_torchs_clipping_of_longer_directions():
    case = make_case("categorical")
    step = Optimizer({"_target_": "torch.optim.SGD", "lr": 1.0}, CONSTANT, max_norm=0.5)
    for scale in (0.001, 10.0):
        x = scale * randn(len(case.theta))
        theta, _, _ = take(step, case, x.clone(), None, case.theta.clone())
        parameter = torch.nn.Parameter(case.theta.clone())
        parameter.grad = -x
        torch.nn.utils.clip_grad_norm_([parameter], 0.5)
        assert close(theta, case.theta - parameter.grad, 1e-12)
    assert float((theta - case.theta).norm()) == pytest.approx(0.5, rel=1e-5)


def test_an_optimizer_leaves_the_direction_as_it_was():
    case, x = make_case("categorical"), randn(len(make_case("categorical").theta))
    kept = x.clone()
    take(Optimizer({"_target_": "torch.optim.Adam"}, CONSTANT, max_norm=0.1), case, x, None, case.theta.clone())
    assert torch.equal(x, kept)


@pytest.mark.parametrize(
    ("optimizer", "schedule", "says"),
    [
        (
            {"_target_": "torch.optim.Adamm"},
            CONSTANT,
            r"optimizer\._target_ must be one of .*\btorch\.optim\.Adam, torch\.optim\.AdamW.*; got 'torch\.optim\.Adamm'",
        ),
        ({"lr": 0.1}, CONSTANT, r"optimizer\._target_ must be one of .*SGD; got None"),
        ({"_target_": "torch.optim.LBFGS"}, CONSTANT, r"optimizer\._target_ must be one of"),
        ({"_target_": "torch.optim.Optimizer"}, CONSTANT, r"optimizer\._target_ must be one of"),
        (
            {"_target_": "torch.optim.Adam", "beta": 0.9},
            CONSTANT,
            r"optimizer must be Adam with .*\blr, betas, eps\b.*; got 'beta'",
        ),
        ({"_target_": "torch.optim.Adam", "lr": -1.0}, CONSTANT, r"Invalid learning rate: -1\.0"),
        (
            {"_target_": "torch.optim.Adam"},
            {"_target_": "torch.optim.lr_scheduler.Linear"},
            r"scheduler\._target_ must be one of .*LinearLR.*; got 'torch\.optim\.lr_scheduler\.Linear'",
        ),
        (
            {"_target_": "torch.optim.Adam"},
            {"_target_": "torch.optim.lr_scheduler.LambdaLR"},
            r"scheduler\._target_ must be one of",
        ),
        (
            {"_target_": "torch.optim.Adam"},
            {"_target_": "torch.optim.lr_scheduler.StepLR", "size": 3},
            r"scheduler must be StepLR with .*step_size \(needed\), gamma.*; got 'size'",
        ),
        (
            {"_target_": "torch.optim.Adam"},
            {"_target_": "torch.optim.lr_scheduler.StepLR"},
            r"scheduler must be StepLR with .*step_size \(needed\), gamma",
        ),
    ],
)
def test_wrong_names_and_arguments_are_refused_with_the_choices(optimizer, schedule, says):
    with pytest.raises(ValueError, match=says):
        Optimizer(optimizer, schedule, max_norm=None)


def test_every_choice_that_is_offered_can_be_made_from_numbers():
    def offered(*config) -> list[str]:
        with pytest.raises(ValueError, match="must be one of") as refusal:
            Optimizer(*config, max_norm=None)
        return str(refusal.value).split("one of ")[1].split(";")[0].split(", ")

    own = "rlopt.core.steps.history.SGDWithHistory"
    assert set(offered({"_target_": "?"}, CONSTANT)) == {own, *(configured(kind)["_target_"] for kind in OPTIMIZERS)}
    schedules = offered({"_target_": "torch.optim.Adam"}, {"_target_": "?"})
    assert {"torch.optim.lr_scheduler.LinearLR", "rlopt.core.steps.optimizer.InverseLR"} < set(schedules)
    names = {schedule.rpartition(".")[2] for schedule in schedules}
    assert not {"ChainedScheduler", "SequentialLR", "LRScheduler", "_LRScheduler"} & names


def test_an_optimizer_that_is_told_not_to_fuse_does_not():
    case = make_case("categorical")
    fused, foreach = (
        Optimizer({"_target_": "torch.optim.Adam", **how}, CONSTANT, None) for how in ({}, {"foreach": True})
    )
    a = take(fused, case, randn(len(case.theta)), None, case.theta.clone())[0]
    b = take(foreach, case, randn(len(case.theta)), None, case.theta.clone())[0]
    assert close(a, b, 1e-12)


def test_only_optimizers_that_rescale_coordinates_are_adaptive():
    def adaptive(kind: str) -> bool:
        return Optimizer(configured(kind), CONSTANT, max_norm=None).adaptive

    assert {kind.split("_")[0] for kind in OPTIMIZERS if not adaptive(kind)} == {"SGD", "ASGD"}
    assert not Fixed(1.0).adaptive and not TrustRegion(1.0, 1.0).adaptive
