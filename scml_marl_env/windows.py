"""A window in two compiled calls: `open_window` before the factory answers, `close_window` after.

Handing arrays to compiled code costs more than what most functions do with them, so everything that a window needs is
one call; `answers_of` says what the settled actions mean. A third, `count_window`, is for audits.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import view as at
from scml_marl_env.actions import ACCEPT, END, N_PRICES, OFFER, ActionGrid
from scml_marl_env.features import (
    THREAD_FEATURES,
    copy,
    write_broadcast,
    write_history_features,
    write_macro,
    write_thread_features,
)
from scml_marl_env.kernels import inlined, kernel, lean
from scml_marl_env.layers.l1_bounds import write_bounds_with
from scml_marl_env.layers.l1_counters import COUNTS, Answers, count_answers, new_answers, read_answers
from scml_marl_env.layers.l1_factory import ACTIVE, Scratch, look, new_scratch
from scml_marl_env.layers.l1_rooms import FEASIBLE
from scml_marl_env.layers.l1_settle import Grid, settle_with
from scml_marl_env.view import FactoryView
from scml_marl_env.world.engine import Answer


class Rules(NamedTuple):
    """What L1 needs of the config: index into `SHIELDS`, the switch `useful`, and the action grid."""

    shield: int
    useful: bool
    quantities: np.ndarray  # int64 (Q,)
    n_price_levels: int


class Columns(NamedTuple):
    """First column of each part of an observation, -1 if it is left out (`EnvConfig.observation`)."""

    thread: int
    history: int
    broadcast: int
    macro: int
    pools: int  # in the state, behind macro and broadcast


class Answered(NamedTuple):
    """What becomes of the chosen actions of a factory."""

    executed: np.ndarray  # int64 (K,)
    reason: np.ndarray  # int64 (K,), see `layers.l1_settle.REASONS`


def new_answered(n_slots: int) -> Answered:
    """An `Answered` of zeros for K = `n_slots` threads."""
    return Answered(np.zeros(n_slots, np.int64), np.zeros(n_slots, np.int64))


def new_counts() -> np.ndarray:
    """What `count_window` adds to: int64 (2, 2, len(COUNTS)), (feasible, covered) x (chosen, executed)."""
    return np.zeros((2, 2, len(COUNTS)), np.int64)


def answers_of(on_turn: np.ndarray, grid: ActionGrid, bounds: np.ndarray, executed: np.ndarray) -> dict[int, Answer]:
    """What int64 (K,) `executed` actions say in the slots that are `on_turn`, bool (K,); `bounds` int32 (K, M)."""
    answers = {}
    for slot in np.flatnonzero(on_turn):
        operation, lead, quantity, level = grid.decode(int(executed[slot]))
        if operation in (END, ACCEPT):
            answers[int(slot)] = Answer(operation)
        elif operation == OFFER:
            price = grid.price(level, *(int(number) for number in bounds[slot, N_PRICES : N_PRICES + 3]))
            answers[int(slot)] = Answer(OFFER, quantity, lead, price)
    return answers


@kernel
def open_window(
    view: FactoryView,
    b: int,
    rules: Rules,
    columns: Columns,
    bounds: np.ndarray,
    observation: np.ndarray,
    state: np.ndarray,
) -> None:
    """Writes what the agents and the critic of factory `b` are shown.

    Args:
        view: `FactoryView`.
        b: which factory of it.
        rules: of L1.
        columns: of the observation.
        bounds: int32 (K, M), written in full.
        observation: float32 (K, D), written in full.
        state: float32 (S,): macro, broadcast, and the mean and the largest of the features of the living threads; what
            is behind them is left alone.
    """
    threads = observation
    if columns.thread < 0:
        threads = np.empty((bounds.shape[0], len(THREAD_FEATURES)), np.float32)
    open_window_with(view, b, rules, columns, bounds, threads, observation, state, new_scratch(view))


@lean
def open_window_with(
    view: FactoryView,
    b: int,
    rules: Rules,
    columns: Columns,
    bounds: np.ndarray,
    threads: np.ndarray,
    observation: np.ndarray,
    state: np.ndarray,
    scratch: Scratch,
) -> None:
    """`open_window` with the caller's memory; `threads` is the observation if it has thread features, else scratch."""
    write_bounds_with(view, b, rules.shield, rules.useful, rules.n_price_levels, bounds, scratch)
    write_threads(view, b, columns, bounds, threads, observation, state)
    write_shared(view, b, columns, bounds, observation, state)


@inlined
def write_threads(
    view: FactoryView,
    b: int,
    columns: Columns,
    bounds: np.ndarray,
    threads: np.ndarray,
    observation: np.ndarray,
    state: np.ndarray,
) -> None:
    """The part of `open_window_with` that is told of each thread, and its pools in the state."""
    first, n = max(0, columns.thread), len(THREAD_FEATURES)
    write_thread_features(view, b, bounds, threads, first)
    if columns.history >= 0:
        write_history_features(view, b, observation, columns.history)
    _pool(view.flags[b], threads, first, state[columns.pools : columns.pools + 2 * n])


@inlined
def write_shared(
    view: FactoryView, b: int, columns: Columns, bounds: np.ndarray, observation: np.ndarray, state: np.ndarray
) -> None:
    """The part of `open_window_with` that all threads share."""
    n_macro = write_macro(view, b, state, 0)
    n_shared = write_broadcast(view, b, bounds, state, n_macro)
    for k in range(bounds.shape[0]):
        if columns.macro >= 0:
            copy(state, observation[k, columns.macro : columns.macro + n_macro])
        if columns.broadcast >= 0:
            copy(state[n_macro:], observation[k, columns.broadcast : columns.broadcast + n_shared - n_macro])


@inlined
def _pool(flags: np.ndarray, threads: np.ndarray, first: int, out: np.ndarray) -> None:
    """Writes the mean, then the largest, of the living threads' features; zeros if there is none."""
    n, n_alive, waiting = len(THREAD_FEATURES), 0, -1
    mean, largest = out[:n], out[n:]
    out[:] = 0.0
    for k in range(flags.shape[0]):
        if not flags[k, at.ALIVE]:
            continue
        row = threads[k, first : first + n]
        n_alive += 1
        if n_alive == 1:
            copy(row, mean)
            copy(row, largest)
        elif waiting < 0:
            waiting = k
        else:  # two rows at once: most of the time goes to the sums that are read and written
            before, waiting = threads[waiting, first : first + n], -1
            for i in range(n):
                mean[i] = mean[i] + before[i] + row[i]
                largest[i] = max(largest[i], max(before[i], row[i]))
    if waiting >= 0:
        row = threads[waiting, first : first + n]
        for i in range(n):
            mean[i] += row[i]
            largest[i] = max(largest[i], row[i])
    share = np.float32(max(1, n_alive))
    for i in range(n):
        mean[i] /= share


@kernel
def close_window(
    view: FactoryView,
    b: int,
    rules: Rules,
    bounds: np.ndarray,
    chosen: np.ndarray,
    priority: np.ndarray,
    answered: Answered,
) -> None:
    """Settles int64 (K,) `chosen` actions of factory `b` jointly."""
    close_window_with(view, b, rules, bounds, chosen, priority, answered, new_scratch(view))


@inlined
def close_window_with(
    view: FactoryView,
    b: int,
    rules: Rules,
    bounds: np.ndarray,
    chosen: np.ndarray,
    priority: np.ndarray,
    answered: Answered,
    scratch: Scratch,
) -> None:
    """`close_window` with the caller's memory."""
    grid = Grid(rules.quantities, rules.n_price_levels, bounds)
    settle_with(view, b, rules.shield, grid, chosen, priority, answered.executed, answered.reason, scratch)


@kernel
def count_window(
    view: FactoryView,
    b: int,
    rules: Rules,
    bounds: np.ndarray,
    chosen: np.ndarray,
    executed: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Adds the unsafe ones of a settled window's answers, whose threads still wait, to `counts` (`new_counts`)."""
    answers = new_answers(chosen.shape[0])
    count_window_with(view, b, rules, bounds, chosen, executed, counts, answers, new_scratch(view))


@lean
def count_window_with(
    view: FactoryView,
    b: int,
    rules: Rules,
    bounds: np.ndarray,
    chosen: np.ndarray,
    executed: np.ndarray,
    counts: np.ndarray,
    answers: Answers,
    scratch: Scratch,
) -> None:
    """`count_window` with the caller's memory; once for both where the executed answers are the chosen ones."""
    f, grid = look(view, b, scratch), Grid(rules.quantities, rules.n_price_levels, bounds)
    as_chosen = True
    for k in range(chosen.shape[0]):
        as_chosen = as_chosen and (executed[k] == chosen[k] or not f.threads[k, ACTIVE])
    read_answers(f, grid, chosen, answers)
    for grade in range(2):
        of_chosen, of_executed = counts[grade, 0], counts[grade, 1]
        if as_chosen:
            for i in range(of_chosen.shape[0]):
                of_executed[i] -= of_chosen[i]
        count_answers(f, FEASIBLE + grade, answers, of_chosen)
        if as_chosen:
            for i in range(of_chosen.shape[0]):
                of_executed[i] += of_chosen[i]
    if not as_chosen:
        read_answers(f, grid, executed, answers)
        for grade in range(2):
            count_answers(f, FEASIBLE + grade, answers, counts[grade, 1])
