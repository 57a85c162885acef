"""The estimator is an option of the policy's update alone."""

from rlopt.config.options import RunConfig
from rlopt.core.estimators.plain import Plain
from rlopt.core.estimators.svrpg import SVRPG
from tests.support.building import resolve


def test_the_critic_has_no_estimator_but_the_plain_one():
    updates = RunConfig.parse(resolve(["algo=svrpg", "estimator.clip=null"])).updates_of
    assert updates[""].estimator == SVRPG(4, 8, "decision", None, False)
    assert updates["critic."].estimator == Plain()
