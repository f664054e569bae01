"""The cheapest cut: by hand, and against a search through all cuts."""

from itertools import chain, combinations

import numpy as np

from pipeline.models.cheapest_cut import WIDE, cheapest_cut


def test_a_chain_is_cut_at_its_smallest_tensor():
    assert cheapest_cut([9, 5, 3, 7], [0] * 4, [(0, 1), (1, 2), (2, 3)], [3]) == [2]


def test_of_equal_cuts_the_nearest_to_the_end():
    assert cheapest_cut([9, 3, 3, 7], [0] * 4, [(0, 1), (1, 2), (2, 3)], [3]) == [2]


def test_what_is_dear_to_compute_again_is_kept():
    """Tensor 2 is 2 smaller than tensor 3, which costs 1, 2 or 3 to compute again."""
    cuts = [cheapest_cut([9, 5, 3, 5], [0, 0, 0, again], [(0, 1), (1, 2), (2, 3)], [3]) for again in (1, 2, 3)]
    assert cuts == [[2], [3], [3]]


def test_a_residual_connection_needs_two_tensors():
    """1 is added to what is trained on 2, which is made of 1; 1 alone would do, but 2 costs 6 to compute again."""
    assert cheapest_cut([9, 4, 5], [0, 0, 6], [(0, 1), (1, 2)], [1, 2]) == [1, 2]
    assert cheapest_cut([9, 4, 5], [0, 0, 4], [(0, 1), (1, 2)], [1, 2]) == [1]


def test_the_input_may_be_the_smallest():
    assert cheapest_cut([4, 6, 7], [0, 1, 1], [(0, 1), (1, 2)], [2]) == [0]
    assert cheapest_cut([4, 2], [0, 0], [(0, 1)], [0, 1]) == [0]


def test_no_cut_where_nothing_can_be_kept():
    assert cheapest_cut([WIDE, WIDE], [0, 0], [(0, 1)], [1]) == []
    assert cheapest_cut([7, WIDE], [0, 10 * WIDE], [(0, 1)], [1]) == []


def test_numbers_of_large_images_do_not_overflow():
    assert cheapest_cut([10**8] * 40, [10 * WIDE] * 40, [(0, one) for one in range(1, 40)], [38, 39]) == [38, 39]


def cost_of(kept, cost, again, before, ends):
    """The price of a set of kept tensors: what is not kept, but needed, is computed again from what is before it."""
    needed, computed = list(ends), set()
    while needed:
        tensor = needed.pop()
        if tensor not in kept and tensor not in computed:
            if tensor == 0:
                return None  # the input cannot be computed
            computed.add(tensor)
            needed += before[tensor]
    return sum(cost[one] for one in kept) + sum(again[one] for one in computed)


def test_random_graphs_against_all_their_cuts():
    random = np.random.default_rng(0)
    sizes = []
    for _ in range(100):
        count = int(random.integers(2, 8))
        cost, again = (random.integers(low, high, count).tolist() for low, high in ((1, 9), (0, 6)))
        before = {
            one: sorted({int(random.integers(one)) for _ in range(random.integers(1, 4))}) for one in range(1, count)
        }
        ends = sorted({int(one) for one in random.integers(0, count, random.integers(1, 4))})
        arcs = [(first, second) for second, firsts in before.items() for first in firsts]
        every = chain.from_iterable(combinations(range(count), size) for size in range(1, count + 1))
        costs = [one for kept in every if (one := cost_of(set(kept), cost, again, before, ends)) is not None]
        found = cheapest_cut(cost, again, arcs, ends)
        assert cost_of(set(found), cost, again, before, ends) == min(costs)
        sizes.append(len(found))
    assert set(sizes) >= {1, 2, 3}
