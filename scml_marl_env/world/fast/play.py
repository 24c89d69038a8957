"""A world from its beginning to its end, stopping wherever a factory has to answer from outside."""

import numpy as np

from scml_marl_env.kernels import kernel, lean
from scml_marl_env.view import FactoryView
from scml_marl_env.world.fast import see
from scml_marl_env.world.fast.columns import (
    BANKRUPT,
    CONSERVING,
    DAY,
    EVENING,
    EXTERNAL,
    MORNING,
    MOURNED,
    MOURNING,
    N_DAYS,
    N_FACTORIES,
    OVER,
    PHASE,
    POLICY,
    POSITION,
    PRUDENT,
    ROW,
    TALKS,
    VIEW,
    WINDOW,
    State,
    Tables,
)
from scml_marl_env.world.fast.day import end_day, start_day, start_prices
from scml_marl_env.world.fast.prudence import write_options
from scml_marl_env.world.fast.scripted import begin_agent, begin_day
from scml_marl_env.world.fast.talks import Tape, talk

IS_OVER, IS_WINDOW, IS_BANKRUPT, IS_SEAT = range(4)
"""Why `advance` stopped: the run is over, factory `WINDOW` has to answer, or it went bankrupt yesterday, or a policy
has to answer for it (`seats`)."""


@lean
def begin(
    t: Tables,
    s: State,
    view: FactoryView,
    e: int,
    row: int,
    policy: np.ndarray,
    views: np.ndarray,
    streams: np.ndarray,
    conserving: bool,
) -> None:
    """Puts world `row` of the tables at its beginning into place `e`.

    Args:
        t, s, view: the arrays.
        e: the place.
        row: of the tables.
        policy: int64 (F,), who decides for each factory (`columns.POLICY`).
        views: int64 (F,), row of the view of each factory, -1 for those without.
        streams: uint64 (F,), the state of each factory's random stream.
        conserving: whether production consumes stock.
    """
    world = s.world[e]
    world[:] = 0
    world[ROW], world[WINDOW], world[CONSERVING] = row, -1, conserving
    s.factory[e] = 0
    s.money[e] = 0
    s.due[e] = 0
    s.contract[e] = 0
    s.queue[e] = -1
    s.agent[e] = 0
    s.partner[e] = 0
    s.ledger[e] = 0
    s.diary[e] = 0
    start_prices(t, s, e)
    for f in range(t.world[row, N_FACTORIES]):
        s.factory[e, f, POLICY], s.factory[e, f, VIEW] = policy[f], views[f]
        s.random[e, f] = streams[f]
        if policy[f] == PRUDENT:
            write_options(s.agent[e, f])
        elif policy[f] < EXTERNAL:
            begin_agent(t, s, e, f)
        if views[f] >= 0:
            see.open_book(t, s, view, e, f)


@kernel
def advance(t: Tables, s: State, view: FactoryView, tape: Tape, e: int) -> int:
    """Plays world `e` to its next stop, see `IS_OVER`. A window must have been answered (`talks.give_answers`)."""
    world = s.world[e]
    n_factories = t.world[world[ROW], N_FACTORIES]
    world[WINDOW] = -1
    while world[PHASE] != OVER:
        if world[PHASE] == MORNING:
            start_day(t, s, e)
            for f in range(n_factories):
                if s.factory[e, f, POLICY] < EXTERNAL:
                    begin_day(t, s, e, f)
                if s.factory[e, f, VIEW] >= 0:
                    see.start_day(t, s, view, e, f)
            world[PHASE], world[POSITION] = MOURNING, 0
        if world[PHASE] == MOURNING:
            for f in range(n_factories):
                factory = s.factory[e, f]
                if factory[BANKRUPT] and not factory[MOURNED] and factory[POLICY] == EXTERNAL:
                    factory[MOURNED] = 1
                    world[WINDOW] = f
                    return IS_BANKRUPT
            world[PHASE] = TALKS
        if world[PHASE] == TALKS:
            if talk(t, s, view, tape, e):
                return IS_WINDOW if s.factory[e, world[WINDOW], POLICY] == EXTERNAL else IS_SEAT
            world[PHASE] = EVENING
        end_day(t, s, e)
        world[PHASE] = MORNING if world[DAY] < t.world[world[ROW], N_DAYS] else OVER
    return IS_OVER
