"""ArrayEnv: one world as arrays. The PettingZoo, Gymnasium and vector environments are thin views of it.

Letters: F controlled factories, K slots of a factory, N = F*K agents (agent n is slot n % K of factory n // K), D
features, S numbers of a factory's central state, M compact bounds (`actions.ActionGrid`).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scml_marl_env.actions import CAN_WAIT, WAIT
from scml_marl_env.config import SHIELDS, EnvConfig
from scml_marl_env.handles import handle
from scml_marl_env.layers.l1_shield import COUNTS, REASONS, Shortfall
from scml_marl_env.layout import PRIVATE_COLUMNS, EnvArrays, Layout
from scml_marl_env.reward import RewardBook
from scml_marl_env.windows import answers_of, close_window, count_window, new_answered, new_counts, open_window
from scml_marl_env.world.engine import Answer, Bankrupt, DayResult, Over, Window


class ArrayEnv:
    """One world. `reset` and `step` write `arrays`; both raise RuntimeError when called out of order.

    Rows of a factory (observation, state and bounds) tell the present moment, whosever window it is. With `lazy` a step
    writes only the rows of the factory whose window it is now and of those that ended in it; the others keep what they
    were last shown, until `refresh` brings every row up to date.

    Attributes:
        arrays: `EnvArrays`, the caller's or its own.
        window: the factory whose window it is now, None when the episode is over.
        done: bool (F,), the factory's episode has ended (or its world has no such factory).
        changed: dict, reason -> answers that L1 changed at the last step.
    """

    def __init__(self, config: EnvConfig, arrays: EnvArrays | None = None, *, lazy: bool = False) -> None:
        self.config = config
        self.layout = Layout(config)
        self.grid = self.layout.grid
        self.arrays = arrays if arrays is not None else self.layout.arrays()
        self.engine = make_engine(config)
        self._view = handle(self.engine.view)
        self._rules = self.layout.rules
        n_slots = config.n_slots
        self._lazy = lazy
        self._answered, self._unsafe = new_answered(n_slots), new_counts()
        self._no_priority = np.zeros(n_slots, np.float64)
        self.done = np.ones(config.n_controlled, bool)
        self.window: int | None = None
        self.seed: int | None = None
        self._journal: list[np.ndarray] = []

    def reset(self, seed: int) -> None:
        """Draws the world of `seed` and plays it to its first window."""
        for array in self.arrays:
            array[:] = 0
        self.arrays.bounds[:, CAN_WAIT] = 1  # all that a slot without a partner may do
        self.seed = seed
        self._journal = []
        self.n_steps = 0
        self.changed: dict[str, int] = {}
        self.world_error: str | None = None
        event = self.engine.reset(seed)
        n = self.engine.n_factories
        self.done[:] = True
        self.done[:n] = False
        self.total_changed: dict[str, int] = {}
        self._unsafe[:] = 0
        self.books = [RewardBook(self.config, self.engine.view, factory) for factory in range(n)]
        self._score = np.zeros(self.config.n_controlled)
        self._settle_event(event)
        for book in self.books:
            book.open()
        self.arrays.reward[:] = 0
        self.arrays.elapsed[:] = 0
        self._observe(self.window, True)

    def step(self, actions: np.ndarray, priority: np.ndarray | None = None) -> None:
        """Answers the window with int64 (N,) `actions`; those of inactive agents must be wait (0).

        `priority`, float64 (N,), orders acceptances in L1's joint rule. An action that the mask forbids is replaced and
        counted in `changed`, or raises ValueError before anything happened if the config is `strict`.
        """
        if self.window is None:
            raise RuntimeError("step() after the episode ended, or before it began; call reset() first.")
        factory = self.window
        answers = self._answers(actions, priority)
        self._journal.append(np.array(actions, dtype=np.int32))
        self.n_steps += 1
        self.arrays.terminated[:] = False
        self.arrays.truncated[:] = False
        self.engine.view.on_turn[factory] = False
        self._settle_event(self.engine.resume(answers))
        self._reward()
        window = self.window
        if self.config.max_cycles is not None and self.n_steps >= self.config.max_cycles:
            self._stop(truncated=True)
        self._observe(window, not self._lazy)

    def refresh(self) -> None:
        """Writes every row of observation, state and bounds as of now; without `lazy` they are already."""
        for factory in range(self.engine.n_factories):
            self._show(factory)

    def close(self) -> None:
        self.engine.close()
        self.window = None
        self.done[:] = True

    def state_dict(self) -> dict[str, Any]:
        """What rebuilds this moment: the seed of the world and the actions since (a simulation cannot be copied)."""
        journal = np.stack(self._journal) if self._journal else np.zeros((0, self.layout.n_agents), np.int32)
        return {"seed": self.seed, "actions": journal}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Replays a `state_dict`: the same world, the same answers, the same moment."""
        self.reset(int(saved["seed"]))
        for actions in np.asarray(saved["actions"], dtype=np.int64):
            self.step(actions)

    def statistics(self) -> dict[str, Any]:
        """Of the episode so far: returns and scores of each factory, deals, days, unsafe and changed actions."""
        factories = range(self.engine.n_factories)
        view = self.engine.view
        return {
            "return": [book.total for book in self.books],
            "profit": [book.total_profit for book in self.books],
            "score": [1.0 + book.total_profit for book in self.books],
            "bankrupt": [self.engine.is_bankrupt(f) for f in factories] if self.engine.world is not None else [],
            "level": [int(view.level[f]) for f in factories],
            "deals": [int(view.n_deals[f].sum()) for f in factories],
            "items": [int(view.deal_quantity[f].sum()) for f in factories],
            "shortfall": [sum(result.shortfall for result in self.engine.results[f]) for f in factories],
            "days": max((len(rows) for rows in self.engine.results), default=0),
            "length": self.n_steps,
            "seed": self.seed,
            "opponent_exceptions": self.engine.n_exceptions(),
            "world_error": self.world_error,
            "shortfall_due_to": [self._causes(f) for f in factories],
            "changed": dict(self.total_changed),
            "unsafe": self.unsafe(),
        }

    def unsafe(self) -> dict[str, dict[str, dict[str, int]]]:
        """L1's counters of the episode so far (`layers.l1_counters.COUNTS`): grade, then chosen or executed."""
        return {
            grade: {
                who: dict(zip(COUNTS, self._unsafe[i, j].tolist(), strict=True))
                for j, who in enumerate(("chosen", "executed"))
            }
            for i, grade in enumerate(SHIELDS[1:])
        }

    def results(self, factory: int) -> list[DayResult]:
        return self.engine.results[factory]

    def agents_of(self, factory: int) -> slice:
        return slice(factory * self.config.n_slots, (factory + 1) * self.config.n_slots)

    def _causes(self, factory: int) -> dict[str, int]:
        """Items of the factory's shortfalls by what they were due to (U3)."""
        rows = [result.due_to for result in self.engine.results[factory]]
        return {name: sum(getattr(row, name) for row in rows) for name in Shortfall._fields}

    def _answers(self, actions: np.ndarray, priority: np.ndarray | None) -> dict[int, Answer]:
        factory = self.window
        assert factory is not None
        rows = self.agents_of(factory)
        view, bounds = self.engine.view, self.arrays.bounds[rows]
        chosen = actions[rows]
        priorities = self._no_priority if priority is None else priority[rows]
        close_window(self._view, factory, self._rules, bounds, chosen, priorities, self._answered)
        illegal = self._count_changes(actions, factory)
        if illegal and self.config.strict:
            raise ValueError(
                f"{illegal} of the actions are forbidden by their mask (strict=True). Choose among the ones of "
                "observation['action_mask'], and 0 (wait) for inactive agents."
            )
        for name, count in self.changed.items():
            self.total_changed[name] = self.total_changed.get(name, 0) + count
        if self.config.audit:
            count_window(self._view, factory, self._rules, bounds, chosen, self._answered.executed, self._unsafe)
        self.arrays.executed[:] = WAIT
        self.arrays.executed[rows] = self._answered.executed
        return answers_of(view.on_turn[factory], self.grid, bounds, self._answered.executed)

    def _count_changes(self, actions: np.ndarray, factory: int) -> int:
        """Fills `changed`; returns how many actions the mask forbade, those of inactive agents elsewhere included."""
        others = np.ones(len(actions), bool)
        others[self.agents_of(factory)] = False
        outside = int((actions[others] != WAIT).sum())
        counts = np.bincount(self._answered.reason, minlength=len(REASONS))
        self.changed = {name: int(count) for name, count in zip(REASONS, counts, strict=True) if name != "ok" and count}
        if outside:
            self.changed["illegal"] = self.changed.get("illegal", 0) + outside
        return self.changed.get("illegal", 0)

    def _settle_event(self, event: Any) -> None:
        """Follows the engine to the next window or to the end, and notes who is done."""
        while isinstance(event, Bankrupt):
            self._finish(event.factory, self.arrays.terminated)
            if self.done.all():
                self.window = None
                return
            event = self.engine.resume()
        if isinstance(event, Window):
            if self.done[event.factory]:
                raise RuntimeError(f"Factory {event.factory} got a window after its episode ended.")
            self.window = event.factory
            return
        assert isinstance(event, Over)
        self.world_error = event.error
        self._stop(truncated=event.error is not None)

    def _stop(self, truncated: bool) -> None:
        for factory in np.flatnonzero(~self.done):
            self._finish(int(factory), self.arrays.truncated if truncated else self.arrays.terminated)
        self.window = None

    def _finish(self, factory: int, flag: np.ndarray) -> None:
        self.done[factory] = True
        flag[factory] = True

    def _reward(self) -> None:
        arrays = self.arrays
        arrays.reward[:] = 0
        arrays.elapsed[:] = 0
        for factory, book in enumerate(self.books):
            if book.closed:
                continue
            ended = bool(arrays.terminated[factory])
            balance = self.engine.final_balance(factory) if ended else float(self.engine.view.balance[factory])
            day = len(self.engine.results[factory]) if ended else int(self.engine.view.day[factory])
            arrays.reward[factory], arrays.elapsed[factory] = book.settle(balance, day, ended)
            book.closed = bool(self.done[factory])

    def _observe(self, window: int | None, everything: bool) -> None:
        """Shows the moment; `window` is the factory that is to answer, or would have been at a cut."""
        arrays, view = self.arrays, self.engine.view
        arrays.active[:] = False
        for factory in range(self.engine.n_factories):
            if factory == window:
                arrays.active[self.agents_of(factory)] = view.on_turn[factory]
            else:
                view.on_turn[factory] = False
            if everything or factory == window or arrays.terminated[factory] or arrays.truncated[factory]:
                self._show(factory)

    def _show(self, factory: int) -> None:
        """Writes the rows of a factory, those of slots without a partner excepted: they never change."""
        first, view, arrays = factory * self.config.n_slots, self.engine.view, self.arrays
        last = first + int(view.n_suppliers[factory] + view.n_consumers[factory])
        state = arrays.state[factory]
        open_window(
            self._view, factory, self._rules, self.layout.columns, arrays.bounds[first:last],
            arrays.observation[first:last], state,
        )  # fmt: skip
        if self.config.privileged_state:
            self.engine.write_private(state[self.layout.n_public :].reshape(-1, len(PRIVATE_COLUMNS)))


def make_engine(config: EnvConfig) -> Any:
    """The engine that the config names: `ScmlEngine`, which imports SCML, or `FastEngine`; both have the same calls."""
    if config.engine == "fast":
        from scml_marl_env.world.fast_engine import FastEngine

        return FastEngine(config)
    from scml_marl_env.world.scml_engine import ScmlEngine

    return ScmlEngine(config)
