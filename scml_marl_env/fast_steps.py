"""A step of an environment on the fast engine, compiled: answer the window, play to the next one, reward, show.

The same lines as `ArrayEnv` on the real engine: `settle` and `open_window`, `settle_book`, `advance` in place of the
simulator. A *place* e of a fleet of worlds holds one world; its teams are the controlled factories.
"""

from typing import NamedTuple

import numpy as np

from scml_marl_env import actions as grid
from scml_marl_env import reward as book
from scml_marl_env import view as at
from scml_marl_env.kernels import kernel, lean, unlocked
from scml_marl_env.layers.l1_bounds import price_offset
from scml_marl_env.layers.l1_counters import Answers
from scml_marl_env.layers.l1_factory import Scratch
from scml_marl_env.view import FactoryView
from scml_marl_env.windows import Answered, Columns, Rules, close_window_with, open_window_with
from scml_marl_env.world.fast import columns as fast
from scml_marl_env.world.fast.columns import State, Tables
from scml_marl_env.world.fast.play import IS_BANKRUPT, IS_WINDOW, advance
from scml_marl_env.world.fast.see import write_private
from scml_marl_env.world.fast.talks import Tape, give_answers


class World(NamedTuple):
    """The arrays of the fast engine."""

    tables: Tables
    state: State
    views: FactoryView  # rows e * V + v: the teams of place e first, then whoever else has a view
    tape: Tape


class Settings(NamedTuple):
    """What a step needs of the config."""

    rules: Rules
    columns: Columns
    shaped: bool
    discount: float
    max_cycles: int  # 0 for no limit
    audit: bool  # count unsafe answers
    n_public: int  # columns of the state that everybody may know; private ones follow, if there are any
    n_views: int  # V


class Board(NamedTuple):
    """What the environment shows and remembers of E worlds with F teams of K slots (N = F*K agents)."""

    observation: np.ndarray  # float32 (E, N, D)
    state: np.ndarray  # float32 (E, F, S)
    bounds: np.ndarray  # int32 (E, N, M)
    active: np.ndarray  # bool (E, N)
    reward: np.ndarray  # float32 (E, F)
    elapsed: np.ndarray  # float32 (E, F)
    terminated: np.ndarray  # bool (E, F)
    truncated: np.ndarray  # bool (E, F)
    executed: np.ndarray  # int64 (E, N)
    final_observation: np.ndarray  # float32 (E, N, D)
    final_state: np.ndarray  # float32 (E, F, S)
    final_active: np.ndarray  # bool (E, N)
    final_bounds: np.ndarray  # int32 (E, N, M)
    length: np.ndarray  # int64 (E,)
    returns: np.ndarray  # float64 (E, F)
    done: np.ndarray  # bool (E, F), the team has ended, or is not there
    controlled: np.ndarray  # int64 (E, F), the factory of each team, -1 for none
    window: np.ndarray  # int64 (E,), the team that has to answer, -1 if the episode is over
    book: np.ndarray  # float64 (E, F, reward.N_COLUMNS)
    day: np.ndarray  # int64 (E,), of the last rewards
    answered: np.ndarray  # int64 (E,), the team that answered last
    chosen: np.ndarray  # int64 (E, K), the actions of the window
    priority: np.ndarray  # float64 (E, K)
    settled: np.ndarray  # int64 (E, K), the executed ones
    reason: np.ndarray  # int64 (E, K), see `layers.l1_settle.REASONS`
    changed: np.ndarray  # int64 (E, len(REASONS)), how many of each over the episode
    last_changed: np.ndarray  # int64 (E, len(REASONS)), in the last step
    unsafe: np.ndarray  # int64 (E, 2, 2, len(COUNTS))
    # Memory for the arithmetic about one factory at a time, by lane: calls that run at once have different lanes.
    lane_threads: np.ndarray  # see `l1_factory.Scratch`, each with a leading axis
    lane_leads: np.ndarray
    lane_lots: np.ndarray
    lane_order: np.ndarray
    lane_features: np.ndarray  # float32 (lanes, K, len(THREAD_FEATURES))
    lane_answers: np.ndarray  # int64 (lanes, 4, K)


@kernel
def start(world: World, settings: Settings, board: Board, e: int) -> None:
    """Plays a world that has just begun to its first window and shows it."""
    board.terminated[e] = board.truncated[e] = False
    board.reward[e] = board.elapsed[e] = 0
    board.length[e] = 0
    board.returns[e] = 0
    board.changed[e] = 0
    board.unsafe[e] = 0
    board.executed[e] = 0
    board.observation[e] = 0
    board.bounds[e] = 0
    board.bounds[e, :, grid.CAN_WAIT] = 1  # all that a slot without a partner may do
    for team in range(board.controlled.shape[1]):
        board.done[e, team] = board.controlled[e, team] < 0
    follow(world, board, e)
    board.day[e] = world.state.world[e, fast.DAY]
    for team in range(board.controlled.shape[1]):
        if board.controlled[e, team] >= 0:
            b = e * settings.n_views + team
            start_of = world.views.floats[b, at.INITIAL_BALANCE]
            value = book.potential_of(world.views.ints[b, at.STOCK], world.views.floats[b, at.TRADING_PRICE], start_of)
            book.open_book(board.book[e, team], world.views.floats[b, at.BALANCE], world.views.ints[b, at.DAY], value)
    show(world, settings, board, e, board.window[e], True, 0)


@kernel
def play(world: World, settings: Settings, board: Board, e: int, lane: int) -> None:
    """Answers the window of place `e` with its actions and plays to the next one, or to the end."""
    team = board.window[e]
    answer(world, settings, board, e, team, lane)
    board.length[e] += 1
    board.terminated[e] = board.truncated[e] = False
    follow(world, board, e)
    reward(world, settings, board, e)
    team = board.window[e]
    if settings.max_cycles > 0 and board.length[e] >= settings.max_cycles:
        stop(board, e, True)
    show(world, settings, board, e, team, False, lane)


@lean
def scratch_of(board: Board, lane: int) -> Scratch:
    """L1's memory of a lane."""
    return Scratch(board.lane_threads[lane], board.lane_leads[lane], board.lane_lots[lane], board.lane_order[lane])


@lean
def answer(world: World, settings: Settings, board: Board, e: int, team: int, lane: int) -> None:
    """Settles the chosen actions of the window and hands them to the negotiations."""
    n_slots, b = board.chosen.shape[1], e * settings.n_views + team
    first, rules = team * n_slots, settings.rules
    n = world.views.ints[b, at.N_SUPPLIERS] + world.views.ints[b, at.N_CONSUMERS]
    bounds = board.bounds[e, first : first + n]
    before = board.answered[e] * n_slots
    board.executed[e, before : before + n_slots] = grid.WAIT
    board.answered[e] = team
    settled, chosen = board.settled[e, :n], board.chosen[e, :n]
    answered = Answered(settled, board.reason[e, :n], board.unsafe[e])
    memory = board.lane_answers[lane]
    answers = Answers(memory[0, :n], memory[1, :n], memory[2, :n], memory[3, :n])
    close_window_with(
        world.views, b, rules, bounds, chosen, board.priority[e, :n], answered, settings.audit, answers,
        scratch_of(board, lane),
    )  # fmt: skip
    board.last_changed[e] = 0
    n_quantities, n_levels = rules.quantities.shape[0], rules.n_price_levels
    for k in range(n):
        board.last_changed[e, board.reason[e, k]] += 1
        action, row = settled[k], world.state.answer[e, k]
        board.executed[e, first + k] = action
        row[fast.OPERATION] = min(action, grid.OFFER)
        if action >= grid.OFFER:
            cell, level = divmod(action - grid.OFFER, n_levels)
            lead, index = divmod(cell, n_quantities)
            offset = price_offset(level, bounds[k, grid.N_PRICES], n_levels)
            row[fast.ANSWER_QUANTITY], row[fast.ANSWER_LEAD] = rules.quantities[index], lead
            row[fast.ANSWER_PRICE] = bounds[k, grid.BEST_PRICE] + bounds[k, grid.PRICE_SIGN] * offset
    board.last_changed[e, 0] = 0
    for reason in range(board.changed.shape[1]):
        board.changed[e, reason] += board.last_changed[e, reason]
    give_answers(world.tables, world.state, world.views, e, board.controlled[e, team])


@kernel
def follow(world: World, board: Board, e: int) -> None:
    """Plays on to the next window of a team that is not done, or until every team is."""
    tables, state, view, tape = world
    while True:
        event = advance(tables, state, view, tape, e)
        if event == IS_WINDOW:
            board.window[e] = team_of(state, board, e)
            return
        if event != IS_BANKRUPT:
            stop(board, e, False)
            return
        team = team_of(state, board, e)
        board.done[e, team] = board.terminated[e, team] = True
        if all_done(board, e):
            board.window[e] = -1
            return


@lean
def all_done(board: Board, e: int) -> bool:
    """Whether every team of a place has ended."""
    for team in range(board.done.shape[1]):  # noqa: SIM110 (numba compiles no generators)
        if not board.done[e, team]:
            return False
    return True


@lean
def team_of(state: State, board: Board, e: int) -> int:
    """The team whose factory is the one that the engine stopped for."""
    for team in range(board.controlled.shape[1]):
        if board.controlled[e, team] == state.world[e, fast.WINDOW]:
            return team
    return -1


@lean
def stop(board: Board, e: int, truncated: bool) -> None:
    """Ends the episode of every team that has not ended."""
    for team in range(board.done.shape[1]):
        if not board.done[e, team]:
            board.done[e, team] = True
            if truncated:
                board.truncated[e, team] = True
            else:
                board.terminated[e, team] = True
    board.window[e] = -1


@lean
def reward(world: World, settings: Settings, board: Board, e: int) -> None:
    """Rewards of every team since the last step; within a day there are none, unless a team ends."""
    view, state = world.views, world.state
    is_new = state.world[e, fast.DAY] != board.day[e]
    for team in range(board.controlled.shape[1]):
        board.reward[e, team] = board.elapsed[e, team] = 0
        is_new |= board.terminated[e, team]
    if not is_new:
        return
    board.day[e] = state.world[e, fast.DAY]
    for team in range(board.controlled.shape[1]):
        row, f, b = board.book[e, team], board.controlled[e, team], e * settings.n_views + team
        ended = board.terminated[e, team]
        if f < 0 or row[book.CLOSED] > 0:
            continue
        start_of = view.floats[b, at.INITIAL_BALANCE]
        balance, day = view.floats[b, at.BALANCE], view.ints[b, at.DAY]
        if ended:
            balance, day = state.money[e, f, fast.EARNED] + start_of, state.world[e, fast.DAY]
        value = book.potential_of(view.ints[b, at.STOCK], view.floats[b, at.TRADING_PRICE], start_of)
        gained, days = book.settle_book(row, start_of, balance, day, value, ended, settings.shaped, settings.discount)
        board.reward[e, team], board.elapsed[e, team] = gained, days
        board.returns[e, team] += board.reward[e, team]
        if board.done[e, team]:
            row[book.CLOSED] = 1


@kernel
def show(world: World, settings: Settings, board: Board, e: int, window: int, everything: bool, lane: int) -> None:
    """Writes what the team of the window sees, and the last view of teams that end now (or all rows)."""
    n_slots = board.chosen.shape[1]
    board.active[e] = False
    for team in range(board.controlled.shape[1]):
        first = team * n_slots
        if board.controlled[e, team] < 0:
            continue
        ends = board.terminated[e, team] or board.truncated[e, team]
        if everything or team == window or ends:
            show_team(world, settings, board, e, team, lane)
        if team == window:
            for k in range(n_slots):
                board.active[e, first + k] = world.views.flags[e * settings.n_views + team, k, at.ON_TURN]
        if ends:
            keep_final(board, e, team)


@kernel
def keep_final(board: Board, e: int, team: int) -> None:
    """Keeps what a team sees at its end."""
    n_slots = board.chosen.shape[1]
    first = team * n_slots
    board.final_observation[e, first : first + n_slots] = board.observation[e, first : first + n_slots]
    board.final_bounds[e, first : first + n_slots] = board.bounds[e, first : first + n_slots]
    board.final_active[e, first : first + n_slots] = board.active[e, first : first + n_slots]
    board.final_state[e, team] = board.state[e, team]


@lean
def show_team(world: World, settings: Settings, board: Board, e: int, team: int, lane: int) -> None:
    """Writes the rows of one team, those of slots without a partner excepted: they never change."""
    b, first = e * settings.n_views + team, team * board.chosen.shape[1]
    last = first + world.views.ints[b, at.N_SUPPLIERS] + world.views.ints[b, at.N_CONSUMERS]
    observation = board.observation[e, first:last]
    open_window_with(
        world.views,
        b,
        settings.rules,
        settings.columns,
        board.bounds[e, first:last],
        observation if settings.columns.thread >= 0 else board.lane_features[lane],
        observation,
        board.state[e, team],
        scratch_of(board, lane),
    )
    if board.state.shape[2] > settings.n_public:
        write_private(world.tables, world.state, e, board.state[e, team, settings.n_public :])


@kernel
def take_actions(board: Board, actions: np.ndarray, n_actions: int) -> int:
    """Copies the actions of the windows from int (E, N); returns e * N + n of one outside 0..A-1, else -1."""
    n_agents, n_slots = actions.shape[1], board.chosen.shape[1]
    for e in range(actions.shape[0]):
        first = max(0, board.window[e]) * n_slots
        for k in range(n_slots):
            action = actions[e, first + k] if board.active[e, first + k] else grid.WAIT
            if action < 0 or action >= n_actions:
                return e * n_agents + first + k
            board.chosen[e, k] = action
    return -1


@unlocked
def play_all(world: World, settings: Settings, board: Board, places: np.ndarray, lane: int) -> None:
    """A step of the given places, one after the other; other threads may play other places in other lanes meanwhile."""
    for j in range(places.shape[0]):
        play(world, settings, board, places[j], lane)


@kernel
def start_all(world: World, settings: Settings, board: Board, places: np.ndarray) -> None:
    """`start` of the given places."""
    for j in range(places.shape[0]):
        start(world, settings, board, places[j])


@kernel
def refresh_all(world: World, settings: Settings, board: Board) -> None:
    """Brings every row up to date."""
    for e in range(board.controlled.shape[0]):
        for team in range(board.controlled.shape[1]):
            if board.controlled[e, team] >= 0:
                show_team(world, settings, board, e, team, 0)
