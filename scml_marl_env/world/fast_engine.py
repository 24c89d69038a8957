"""The fast engine with the calls of the real one: one world, stopped at every window of a controlled factory."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scml_marl_env.actions import END
from scml_marl_env.config import EnvConfig
from scml_marl_env.layers.l1_shield import Shortfall
from scml_marl_env.world.engine import Answer, Bankrupt, DayResult, Event, Over, Window
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.fleet import Cast, Fleet
from scml_marl_env.world.fast.play import IS_BANKRUPT, IS_WINDOW
from scml_marl_env.world.fast.see import write_private
from scml_marl_env.world.fast.talks import give_answers


class FastEngine:
    """Plays worlds of one config, one after the other; see `ScmlEngine`, whose results it gives bit for bit.

    Attributes:
        view: `FactoryView`, rows 0..F-1 are the controlled factories.
        n_factories: controlled factories of the current world.
        results: for each of them, the `DayResult` of every finished day.
        world: the fleet, once a world has begun.
    """

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        self._fleet = Fleet(config, 1, config.days_range[1])
        self._networks = self._fleet.networks()
        self.view = self._fleet.view
        self.n_factories = 0
        self.results: list[list[DayResult]] = []
        self.world: Any = None
        self.drawn: Cast | None = None
        self._is_running = False

    def reset(self, seed: int) -> Event:
        """Draws a new world and plays it to its first event."""
        self.drawn = self._fleet.begin(0, seed)
        self.n_factories = len(self.drawn.controlled)
        self.results = [[] for _ in range(self.n_factories)]
        self.world = self._fleet
        self._is_running = True
        return self._advance()

    def resume(self, answers: Mapping[int, Answer] | None = None) -> Event:
        """Answers the last event (slot -> Answer for a window, None otherwise) and plays to the next one."""
        if not self._is_running:
            raise RuntimeError("The simulation is over; call reset() first.")
        state = self._fleet.state
        if answers is not None:
            rows = state.answer[0]
            rows[:] = 0
            rows[:, at.OPERATION] = END
            for slot, answer in answers.items():
                rows[slot] = answer.operation, answer.quantity, answer.lead, answer.price
            window = int(state.world[0, at.WINDOW])
            # The environment may have taken the threads from the window to show others; they are still waiting.
            self.view.on_turn[self._factory(window)] = self._waiting
            give_answers(*self._fleet.arrays[:3], 0, window)
        return self._advance()

    def partners_of(self, factory: int) -> list[str]:
        """Names of the partners of a factory, in the order of its slots: number and level, as in SCML's ids."""
        t, f = self._fleet.tables, self._drawn().controlled[factory]
        names = []
        for i in t.slot[0, f][t.slot[0, f] >= 0]:
            partner = int(t.thread[0, i, at.BUYER]) + int(t.thread[0, i, at.SELLER]) - f
            names.append(self._names()[partner])
        return names

    def final_balance(self, factory: int) -> float:
        """Balance after the last finished day, dollars."""
        results = self.results[factory]
        return results[-1].balance if results else float(self.view.initial_balance[factory])

    def is_bankrupt(self, factory: int) -> bool:
        return bool(self._fleet.state.factory[0, self._drawn().controlled[factory], at.BANKRUPT])

    def write_private(self, out: np.ndarray) -> None:
        """See `ScmlEngine.write_private`."""
        write_private(*self._fleet.arrays[:2], 0, out.reshape(-1))

    def n_exceptions(self) -> int:
        """Compiled opponents raise none."""
        return 0

    def scores(self) -> dict[str, float]:
        """SCML's score of every factory: balance over initial balance."""
        return {name: self._score(f) for f, name in enumerate(self._names())}

    def score(self, factory: int) -> float:
        """SCML's score of a controlled factory."""
        return self._score(self._drawn().controlled[factory])

    def close(self) -> None:
        """Lets go of the world."""
        self._is_running = False
        self.world = None

    def _score(self, f: int) -> float:
        start = int(self._fleet.tables.factory[0, f, at.INITIAL_BALANCE])
        balance = float(self._fleet.state.money[0, f, at.EARNED]) + start
        return balance / start if start else balance

    def _drawn(self) -> Cast:
        assert self.drawn is not None
        return self.drawn

    def _names(self) -> list[str]:
        """SCML's ids: number, letters of the agent's class, level."""
        return [f"{f:02d}@{level}" for f, level in enumerate(self._drawn().levels)]

    def _factory(self, world_factory: int) -> int:
        return self._drawn().controlled.index(world_factory)

    def _advance(self) -> Event:
        fleet = self._fleet
        event = fleet.advance(self._networks)
        self._note_results()
        if event not in (IS_WINDOW, IS_BANKRUPT):
            self._is_running = False
            return Over(None)
        factory = self._factory(int(fleet.state.world[0, at.WINDOW]))
        if event == IS_BANKRUPT:
            return Bankrupt(factory)
        self._waiting = self.view.on_turn[factory].copy()
        return Window(factory)

    def _note_results(self) -> None:
        """Appends the days that have been finished."""
        names = {name: i for i, name in enumerate(at.DIARY)}
        for rows, f in zip(self.results, self._drawn().controlled, strict=True):
            for day in range(len(rows), int(self._fleet.state.world[0, at.DAY])):
                page = self._fleet.state.diary[0, day, f].tolist()

                def whole(name: str, page: list[float] = page) -> int:
                    return int(page[names[name]])

                rows.append(
                    DayResult(
                        day=day,
                        balance=page[names["balance"]],
                        profit=page[names["profit"]],
                        stock=whole("stock"),
                        bought=whole("bought"),
                        sold=whole("sold"),
                        produced=whole("produced"),
                        shortfall=whole("shortfall"),
                        due_to=Shortfall(whole("negotiated"), whole("exogenous"), whole("money"), whole("bankruptcy")),
                        shortfall_penalty=page[names["penalty"]],
                        storage_cost=page[names["storage"]],
                        disposal_cost=page[names["disposal"]],
                    )
                )
