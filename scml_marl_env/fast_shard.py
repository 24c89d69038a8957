"""The play of E worlds on the fast engine: the calls of `vector_worker.Shard`, one compiled call a step."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from scml_marl_env import reward as book
from scml_marl_env.config import SHIELDS, EnvConfig
from scml_marl_env.fast_steps import (
    Board,
    Settings,
    World,
    answer_all,
    at_seats,
    count_all,
    follow_all,
    go_on_all,
    play_all,
    refresh_all,
    show_all,
    show_starts,
    start_all,
    step_all,
    take_actions,
)
from scml_marl_env.features import THREAD_FEATURES
from scml_marl_env.handles import handle
from scml_marl_env.layers.l1_factory import N_COLUMNS, N_LEAD_ROWS
from scml_marl_env.layers.l1_shield import COUNTS, REASONS, Shortfall
from scml_marl_env.layout import Layout
from scml_marl_env.vector_worker import EMPTY_EPISODES, VectorArrays, episode_seed
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.fleet import Cast, Fleet

_PARTS_PER_THREAD = 4
_SNAPSHOT = 2  # raised when a number of a saved array means something else than before
_RESULTS = ("reward", "elapsed", "terminated", "truncated", "executed")
_CAUSES = dict(
    zip(
        Shortfall._fields,
        (at.LEDGER_NEGOTIATED, at.LEDGER_EXOGENOUS, at.LEDGER_MONEY, at.LEDGER_BANKRUPTCY),
        strict=True,
    )
)


class FastShard:
    """All worlds of a vector environment, in this process, on `threads` cores."""

    def __init__(self, config: EnvConfig, layout: Layout, arrays: VectorArrays, threads: int) -> None:
        self.config, self.arrays = config, arrays
        n_worlds, n_slots = len(arrays.episode), config.n_slots
        self._fleet = Fleet(config, n_worlds)
        self._drawn: list[Cast | None] = [None] * n_worlds
        self._places = np.arange(n_worlds)
        # Small parts, so that a thread with quick worlds takes the next one; compiled code holds no interpreter lock. A
        # part with policies as opponents is large, since they answer all of its worlds at once.
        has_networks = self._fleet.networks() is not None
        n_parts = min(n_worlds, threads if has_networks else _PARTS_PER_THREAD * threads)
        self._parts = np.array_split(self._places, n_parts)
        self._networks = [self._fleet.networks() for _ in self._parts]
        self._pool = ThreadPoolExecutor(threads, "scml-worlds") if threads > 1 else None
        self._seed = 0
        now, n_lanes = arrays.now, len(self._parts)
        arrays.team[:] = -1
        self.board = Board(
            *now,
            arrays.final_observation,
            arrays.final_state,
            arrays.final_active,
            arrays.final_bounds,
            arrays.length,
            arrays.returns,
            arrays.done,
            controlled=np.full((n_worlds, config.n_controlled), -1),
            window=arrays.team,
            n_written=np.zeros(n_worlds, np.int64),
            book=np.zeros((n_worlds, config.n_controlled, book.N_COLUMNS)),
            day=np.zeros(n_worlds, np.int64),
            answered=np.zeros(n_worlds, np.int64),
            chosen=np.zeros((n_worlds, n_slots), np.int64),
            priority=np.zeros((n_worlds, n_slots)),
            settled=np.zeros((n_worlds, n_slots), np.int64),
            reason=np.zeros((n_worlds, n_slots), np.int64),
            changed=np.zeros((n_worlds, len(REASONS)), np.int64),
            last_changed=np.zeros((n_worlds, len(REASONS)), np.int64),
            unsafe=np.zeros((n_worlds, 2, 2, len(COUNTS)), np.int64),
            lane_threads=np.zeros((n_lanes, n_slots, N_COLUMNS), np.int64),
            lane_leads=np.zeros((n_lanes, N_LEAD_ROWS, config.horizon + 1), np.int64),
            lane_lots=np.zeros((n_lanes, 4), np.int64),
            lane_order=np.zeros((n_lanes, n_slots), np.int64),
            lane_features=np.zeros((n_lanes, n_slots, len(THREAD_FEATURES)), np.float32),
            lane_answers=np.zeros((n_lanes, 4, n_slots), np.int64),
        )
        settings = Settings(
            handle(layout.rules),
            layout.columns,
            config.reward == "potential",
            float(config.discount),
            config.max_cycles or 0,
            layout.n_public,
            self._fleet.n_views,
        )
        world = World(*self._fleet.arrays)
        self._world, self._settings, self._board = handle(world), handle(settings), handle(self.board)

    def begin(self, seed: int, episodes: Mapping[int, int]) -> list[dict[str, Any]]:
        """Starts episode `episodes[e]` of each world e. Returns statistics of episodes that were over at once."""
        self._seed = seed
        return self._begin(dict(episodes))

    def take(self, actions: np.ndarray, n_actions: int) -> int:
        """Notes int (E, N) actions of the agents that decide; returns e * N + n of a wrong one, else -1."""
        return take_actions(self._board, actions, n_actions)

    def start_step(self) -> None:
        """Nothing: this process plays while it waits for the end of the step."""

    def step(self) -> list[dict[str, Any]]:
        """Plays the actions of the arrays and resets worlds whose last team ends. Returns their statistics."""
        places, parts = self._places, self._parts
        if not self.arrays.stepped.all():
            self.arrays.rest(~self.arrays.stepped)
            places = np.flatnonzero(self.arrays.stepped)
            parts = np.array_split(places, len(parts))
        if self._pool is None:
            self._play(places, 0)
        else:
            jobs = [self._pool.submit(self._play, part, lane) for lane, part in enumerate(parts)]
            for job in jobs:
                job.result()
        if self.config.strict:
            self._refuse_illegal()
        over = np.flatnonzero(self.board.window < 0)
        if not len(over):
            return []
        ended = [self._statistics(int(e)) for e in over]
        kept = [getattr(self.board, name)[over].copy() for name in _RESULTS]
        ended += self._begin({int(e): int(self.arrays.episode[e]) + 1 for e in over})
        for name, values in zip(_RESULTS, kept, strict=True):
            getattr(self.board, name)[over] = values
        return ended

    def _play(self, places: np.ndarray, lane: int) -> None:
        """A step of the given places."""
        if self.config.audit:
            answer_all(self._world, self._settings, self._board, places, lane)
            count_all(self._world, self._settings, self._board, places, lane)
            go_on_all(self._world, self._board, places)
        elif self._networks[lane] is None:
            step_all(self._world, self._settings, self._board, places, lane)
            return
        else:
            play_all(self._world, self._settings, self._board, places, lane)
        self._answer_seats(places, lane)
        show_all(self._world, self._settings, self._board, places, lane)

    def _answer_seats(self, places: np.ndarray, lane: int) -> None:
        """Lets the policies that play as opponents answer until none of the places waits for one."""
        networks = self._networks[lane]
        if networks is None:
            return
        places = at_seats(self._world, places)
        while len(places):
            networks.answer(places)
            places = follow_all(self._world, self._board, places)

    def refresh(self) -> None:
        """Writes every row of what the agents see as of now."""
        refresh_all(self._world, self._settings, self._board)

    def everyone(self) -> tuple[np.ndarray, np.ndarray]:
        """(observation, state) of every team as of now, in arrays of their own; see `VectorEnv.everyone`."""
        shapes, n_worlds = Layout(self.config).shapes(), len(self.arrays.episode)
        rows: dict[str, np.ndarray] = {}
        for name in ("observation", "state", "bounds"):
            shape, dtype = shapes[name]
            rows[name] = np.zeros((n_worlds, *shape), dtype)
        refresh_all(self._world, self._settings, handle(self.board._replace(**rows)))
        return rows["observation"], rows["state"]

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that changes, as arrays by name."""
        parts = {f"state.{name}": array.copy() for name, array in self._fleet.state._asdict().items()}
        parts["state.random"] = parts["state.random"].view(np.int64)
        parts |= {f"view.{name}": array.copy() for name, array in self._fleet.view._asdict().items()}
        parts |= {f"board.{name}": array.copy() for name, array in self._kept().items()}
        return parts | {"version": np.array([_SNAPSHOT])}

    def _kept(self) -> dict[str, np.ndarray]:
        """The arrays of the board without its memory for arithmetic, which depends on `threads`."""
        return {name: array for name, array in self.board._asdict().items() if not name.startswith("lane_")}

    def check_fits(self, parts: Mapping[str, np.ndarray]) -> None:
        """Refuses a `snapshot` that a version took which has other arrays, or means something else by them.

        Raises:
            ValueError: if it cannot be restored here.
        """
        for name, array in self.snapshot().items():
            saved = np.asarray(parts[name]) if name in parts else None
            if saved is None or saved.nbytes != array.nbytes or (name == "version" and saved.item() != _SNAPSHOT):
                raise ValueError(
                    f"Another version of scml_marl_env saved these worlds ({name} differs); they cannot go on here. "
                    "Go on with that version, or begin a new run; the policy itself can still be loaded and played."
                )

    def restore(self, seed: int, episodes: Mapping[int, int], parts: Mapping[str, np.ndarray]) -> None:
        """Draws the worlds of the episodes again and puts everything as it was in a `snapshot`."""
        self._seed = seed
        for e, episode in episodes.items():
            self.arrays.episode[e] = episode
            self._drawn[e] = self._fleet.begin(e, episode_seed(seed, e, episode))
        world, seen, rows = self._fleet.state._asdict(), self._fleet.view._asdict(), self._fleet.state.world[:, at.ROW]
        rows = rows.copy()  # of the tables: where a world lies is this process' matter
        for group, arrays in (("state", world), ("view", seen), ("board", self._kept())):
            for name, array in arrays.items():
                array[...] = np.asarray(parts[f"{group}.{name}"]).view(array.dtype).reshape(array.shape)
        self._fleet.state.world[:, at.ROW] = rows

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays but those that a bank shares among all that play its worlds."""
        fleet = self._fleet
        own = (fleet.state, fleet.view, self.board) + ((fleet.tables,) if self.config.bank is None else ())
        return sum(array.nbytes for arrays in own for array in arrays)

    def close(self) -> None:
        """Ends the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _begin(self, episodes: dict[int, int]) -> list[dict[str, Any]]:
        ended: list[dict[str, Any]] = []
        for _ in range(EMPTY_EPISODES):
            for e, episode in episodes.items():
                self.arrays.episode[e] = episode
                drawn = self._fleet.begin(e, episode_seed(self._seed, e, episode))
                self._drawn[e] = drawn
                self.board.controlled[e] = -1
                self.board.controlled[e, : len(drawn.controlled)] = drawn.controlled
            places = np.array(list(episodes), np.int64)
            start_all(self._world, self._settings, self._board, places)
            self._answer_seats(places, 0)
            show_starts(self._world, self._settings, self._board, places)
            over = [e for e in episodes if self.board.window[e] < 0]
            if not over:
                return ended
            ended += [self._statistics(e) for e in over]
            episodes = {e: episodes[e] + 1 for e in over}
        raise RuntimeError(
            f"Worlds {list(episodes)} were over before their first window in {EMPTY_EPISODES} episodes in a row, the "
            f"last ones {episodes} of seed {self._seed}."
        )

    def _refuse_illegal(self) -> None:
        illegal = self.board.last_changed[:, REASONS.index("illegal")]
        if illegal.any():
            raise ValueError(
                f"{int(illegal.sum())} of the actions are forbidden by their mask (strict=True), in worlds "
                f"{np.flatnonzero(illegal).tolist()}. Choose among those of action_grid.mask(bounds)."
            )

    def _statistics(self, e: int) -> dict[str, Any]:
        """As `ArrayEnv.statistics`, and which episode of which world."""
        drawn, board, state, view = self._drawn[e], self.board, self._fleet.state, self._fleet.view
        assert drawn is not None
        teams = range(len(drawn.controlled))
        rows = [e * self._fleet.n_views + team for team in teams]
        ledger = [state.ledger[e, f] for f in drawn.controlled]
        books = board.book[e]
        names = zip(REASONS, board.changed[e].tolist(), strict=True)
        return {
            "world": e,
            "episode": int(self.arrays.episode[e]),
            "return": [float(books[team, book.TOTAL]) for team in teams],
            "profit": [float(books[team, book.TOTAL_PROFIT]) for team in teams],
            "score": [1.0 + float(books[team, book.TOTAL_PROFIT]) for team in teams],
            "bankrupt": [bool(state.factory[e, f, at.BANKRUPT]) for f in drawn.controlled],
            "level": [int(view.level[b]) for b in rows],
            "deals": [int(view.n_deals[b].sum()) for b in rows],
            "items": [int(view.deal_quantity[b].sum()) for b in rows],
            "shortfall": [int(row[at.LEDGER_SHORT]) for row in ledger],
            "days": int(state.world[e, at.DAY]),
            "length": int(board.length[e]),
            "seed": drawn.seed,
            "opponent_exceptions": 0,
            "world_error": None,
            "shortfall_due_to": [{name: int(row[column]) for name, column in _CAUSES.items()} for row in ledger],
            "changed": {name: count for name, count in names if name != "ok" and count},
            "unsafe": {
                grade: {
                    who: dict(zip(COUNTS, board.unsafe[e, i, j].tolist(), strict=True))
                    for j, who in enumerate(("chosen", "executed"))
                }
                for i, grade in enumerate(SHIELDS[1:])
            },
        }
