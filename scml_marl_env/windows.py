"""A window in two compiled calls: `open_window` before the factory answers, `close_window` after.

Handing a `FactoryView` of many arrays to compiled code costs more than what most functions do with it, so everything
that a window needs is one call.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env.features import write_broadcast, write_history_features, write_macro, write_thread_features
from scml_marl_env.kernels import kernel
from scml_marl_env.layers.l1_shield import COVERED, FEASIBLE, count_unsafe, decode_answers, settle, write_bounds
from scml_marl_env.view import FactoryView


class Rules(NamedTuple):
    """What L1 needs of the config: index into `SHIELDS`, the switch `useful`, and the action grid."""

    shield: int
    useful: bool
    quantities: np.ndarray  # int64 (Q,)
    n_price_levels: int


class Shown(NamedTuple):
    """What a factory's agents and critic are shown; written by `open_window`."""

    bounds: np.ndarray  # int32 (K, M)
    thread: np.ndarray  # float32 (K, len(THREAD_FEATURES))
    history: np.ndarray  # float32 (K, N * len(HISTORY_FEATURES))
    broadcast: np.ndarray  # float32 (len(broadcast_names(L)),)
    macro: np.ndarray  # float32 (len(macro_names(L)),)


class Answered(NamedTuple):
    """What becomes of the chosen actions of a factory; written by `close_window`."""

    executed: np.ndarray  # int64 (K,)
    reason: np.ndarray  # int64 (K,), see `layers.l1_settle.REASONS`
    unsafe: np.ndarray  # int64 (2, 2, len(COUNTS)), increased: (feasible, covered) x (chosen, executed)


@kernel
def open_window(view: FactoryView, b: int, rules: Rules, shown: Shown) -> None:
    """Writes the bounds and all features of factory `b`."""
    write_bounds(view, b, rules.shield, rules.useful, rules.n_price_levels, shown.bounds)
    write_thread_features(view, b, shown.bounds, shown.thread)
    write_history_features(view, b, shown.history)
    write_broadcast(view, b, shown.bounds, shown.broadcast)
    write_macro(view, b, shown.macro)


@kernel
def close_window(
    view: FactoryView,
    b: int,
    rules: Rules,
    bounds: np.ndarray,
    chosen: np.ndarray,
    priority: np.ndarray,
    answered: Answered,
    count: bool,
) -> None:
    """Settles int64 (K,) `chosen` actions of factory `b` jointly, and counts unsafe ones if `count`."""
    quantities, n_price_levels = rules.quantities, rules.n_price_levels
    settle(
        view, b, rules.shield, rules.useful, quantities, n_price_levels, bounds, chosen, priority, answered.executed,
        answered.reason,
    )  # fmt: skip
    if not count:
        return
    for who in range(2):
        actions = chosen if who == 0 else answered.executed
        answers = decode_answers(view, b, quantities, n_price_levels, bounds, actions)
        count_unsafe(view, b, FEASIBLE, answers, answered.unsafe[0, who])
        count_unsafe(view, b, COVERED, answers, answered.unsafe[1, who])
