"""The cheapest cut through a graph of tensors: a minimum cut (Ford & Fulkerson, Canadian J. of Mathematics 8, 1956)."""

from collections.abc import Collection, Sequence

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

WIDE = 2**29
"""A cost that no cut has: more than all others together, and few enough for sums of 32 bits."""


def cheapest_cut(
    cost: Sequence[int], again: Sequence[int], arcs: Collection[tuple[int, int]], ends: Collection[int]
) -> list[int]:
    """The cheapest set of tensors to keep, so that all that is needed behind them can be computed from them.

    Tensors are numbered from 0, the input, on which all others depend. A tensor that is neither kept nor needed to
    compute a kept one is computed again.

    Args:
        cost: what it costs to keep each of N tensors; `WIDE` for one that cannot be kept.
        again: what it costs to compute each tensor again.
        arcs: pairs of tensors: the second is computed from the first, and perhaps from others.
        ends: the tensors that are needed behind the cut.

    Returns:
        The kept tensors, ascending; of equally cheap cuts, the one nearest to the ends. Nothing if no cut costs less
        than `WIDE`.
    """
    # Tensor n is an arc from 2 n to 2 n + 1, as wide as its cost. To compute it again is to cut the arc to 2 n from the
    # input. What still reaches the sink beside the largest flow lies behind the cut.
    count = len(cost)
    sink, source = 2 * count, 2 * count + 1
    width = {(2 * number, 2 * number + 1): min(WIDE, cost[number]) for number in range(count)}
    width |= {(0, 2 * number): min(WIDE, again[number]) for number in range(1, count) if again[number]}
    width |= {(2 * first + 1, 2 * second): WIDE for first, second in arcs}
    width |= {(2 * end + 1, sink): WIDE for end in ends} | {(source, 0): WIDE}  # more could be too much for 32 bits
    rows, columns = np.array(list(width), np.int32).T
    widths = np.array(list(width.values()), np.int32)
    network = sparse.csr_array((widths, (rows, columns)), (source + 1, source + 1))
    beside = network - csgraph.maximum_flow(network, source, sink).flow
    beside.eliminate_zeros()
    behind = set(csgraph.breadth_first_order(beside.T.tocsr(), sink, return_predecessors=False).tolist())
    return [number for number in range(count) if 2 * number not in behind and 2 * number + 1 in behind]
