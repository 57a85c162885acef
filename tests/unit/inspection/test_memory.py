import torch

from rlopt.inspection.memory import NewTensors

KILOBYTE = 250  # float32 numbers


def test_the_most_that_is_alive_at_once_is_counted():
    given = torch.zeros(KILOBYTE)
    with NewTensors() as memory:
        a = given + 1
        b = a + 1
        del a
        c = b + 1
    assert memory.peak == 2000
    assert c.sum() == 3 * KILOBYTE


def test_what_is_given_views_and_results_in_place_are_not_new():
    given = torch.zeros(KILOBYTE)
    with NewTensors() as memory:
        given.view(10, 25).t().add_(1)
        torch.add(given, 1, out=given)
    assert memory.peak == 0


def test_a_loop_that_lets_go_does_not_add_up():
    x = torch.zeros(KILOBYTE)
    with NewTensors() as memory:
        for _ in range(50):
            x = x + 1
    assert memory.peak == 2000


def test_products_inside_composite_functions_are_seen():
    with NewTensors() as memory:
        torch.einsum("ij,jk->ik", torch.zeros(10, 25), torch.zeros(25, 10))
    assert memory.peak == 2 * 1000 + 400


def test_nothing_is_counted_afterwards():
    with NewTensors() as memory:
        torch.zeros(1)
    torch.zeros(KILOBYTE)
    assert memory.peak == 4
