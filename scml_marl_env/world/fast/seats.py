"""Windows of the factories that policies play as opponents: shown, answered and settled, many places at once.

The same lines as in `fast_steps` for the environment's own factories, with the columns, grid and shield of the policy.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import actions as grid
from scml_marl_env import view as at
from scml_marl_env.features import copy
from scml_marl_env.kernels import inlined, lean, unlocked
from scml_marl_env.layers.l1_factory import NEW_LEAD, NEW_PRICE, NEW_QUANTITY, Scratch
from scml_marl_env.view import FactoryView
from scml_marl_env.windows import Answered, Columns, Rules, close_window_with, open_window_with
from scml_marl_env.world.fast import columns as fast
from scml_marl_env.world.fast.chance import fill
from scml_marl_env.world.fast.columns import State, Tables
from scml_marl_env.world.fast.talks import give_answers


class Seats(NamedTuple):
    """What a policy's windows in up to P places are made of; K slots, D columns, M bounds, R = P * K rows."""

    tables: Tables
    state: State
    views: FactoryView
    policy: int  # value of `columns.POLICY`
    rules: Rules
    columns: Columns
    place: np.ndarray  # int64 (P,), of each window
    first: np.ndarray  # int64 (P + 1,), rows of its slots: first[j]..first[j + 1] - 1
    bounds: np.ndarray  # int32 (R, M), of all slots
    chosen: np.ndarray  # int64 (R,), their actions
    # One row for each thread that waits for an answer, in the same order:
    row: np.ndarray  # int64 (R,), its row of `bounds`
    observation: np.ndarray  # float32 (R, D)
    limits: np.ndarray  # int32 (R, M), its bounds
    uniform: np.ndarray  # float32 (R, N_DRAWS)
    # Memory for one window at a time:
    features: np.ndarray  # float32 (K, D)
    threads: np.ndarray  # float32 (K, len(THREAD_FEATURES)), if the observation has no part `thread`
    summary: np.ndarray  # float32 (S,), the critic's state, which nobody reads
    priority: np.ndarray  # float64 (K,), zeros
    settled: np.ndarray  # int64 (K,)
    reason: np.ndarray  # int64 (K,)
    scratch_threads: np.ndarray  # see `l1_factory.Scratch`
    scratch_leads: np.ndarray
    scratch_lots: np.ndarray
    scratch_order: np.ndarray


@unlocked
def open_seats(seats: Seats, places: np.ndarray) -> tuple[int, int]:
    """Writes the windows of the policy among int64 (<= P,) `places`; returns how many there are, and rows that wait."""
    s, view = seats.state, seats.views
    n_windows = n_rows = last = 0
    seats.first[0] = 0
    for j in range(places.shape[0]):
        e = places[j]
        f = s.world[e, fast.WINDOW]
        if f < 0 or s.factory[e, f, fast.POLICY] != seats.policy:
            continue
        b, first = s.factory[e, f, fast.VIEW], last
        n_slots = view.ints[b, at.N_SUPPLIERS] + view.ints[b, at.N_CONSUMERS]
        last = first + n_slots
        seats.place[n_windows] = e
        n_windows += 1
        seats.first[n_windows] = last
        features, bounds = seats.features[:n_slots], seats.bounds[first:last]
        threads = features if seats.columns.thread >= 0 else seats.threads[:n_slots]
        open_window_with(
            view, b, seats.rules, seats.columns, bounds, threads, features, seats.summary, scratch_of(seats)
        )  # fmt: skip
        before = n_rows
        for k in range(n_slots):
            seats.chosen[first + k] = grid.WAIT
            if view.flags[b, k, at.ON_TURN]:
                seats.row[n_rows] = first + k
                copy(features[k], seats.observation[n_rows])
                copy(bounds[k], seats.limits[n_rows])
                n_rows += 1
        fill(s.random[e], f, seats.uniform[before:n_rows])
    return n_windows, n_rows


@unlocked
def close_seats(seats: Seats, n_windows: int, actions: np.ndarray) -> None:
    """Settles int64 (n,) `actions` of the rows that `open_seats` wrote, and hands them to the negotiations."""
    s, view = seats.state, seats.views
    for i in range(actions.shape[0]):
        seats.chosen[seats.row[i]] = actions[i]
    scratch = scratch_of(seats)
    for j in range(n_windows):
        e, first, last = seats.place[j], seats.first[j], seats.first[j + 1]
        f, n = s.world[e, fast.WINDOW], last - first
        b = s.factory[e, f, fast.VIEW]
        answered = Answered(seats.settled[:n], seats.reason[:n])
        close_window_with(
            view, b, seats.rules, seats.bounds[first:last], seats.chosen[first:last], seats.priority[:n], answered,
            scratch,
        )  # fmt: skip
        say(s, e, answered.executed, scratch)
        give_answers(seats.tables, s, view, e, f)


@lean
def say(s: State, e: int, settled: np.ndarray, scratch: Scratch) -> None:
    """Writes int64 (n,) `settled` actions, and the offers that they are, as answers of place `e`."""
    for k in range(settled.shape[0]):
        row, thread = s.answer[e, k], scratch.threads[k]
        row[fast.OPERATION] = min(settled[k], grid.OFFER)
        row[fast.ANSWER_QUANTITY], row[fast.ANSWER_LEAD] = thread[NEW_QUANTITY], thread[NEW_LEAD]
        row[fast.ANSWER_PRICE] = thread[NEW_PRICE]


@inlined
def scratch_of(seats: Seats) -> Scratch:
    """L1's memory."""
    return Scratch(seats.scratch_threads, seats.scratch_leads, seats.scratch_lots, seats.scratch_order)
