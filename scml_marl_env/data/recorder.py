"""The recorder: writes down what any SCML agent sees, does and gets, without changing what it does.

    Recorded = recorded(PenguinAgent, config, Path("logs"))   # plays exactly as PenguinAgent does
    path = agent.end_recording()                              # of an agent of that class, after the run

Each agent of the class writes a log of its own (`data.log`). A window is what a sync agent decides at once, and one
thread for any other agent; features, bounds and state are those that `open_window` would show a policy there. A sync
agent's are written before it is asked; those of any other when it has answered, and its earlier answers of the round
are then pending offers, which no policy of ours sees. Answers are what is really sent, put on the grid by `nearest`.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.actions import N_PRICES, OFFER, OPERATION_NAMES, ActionGrid
from scml_marl_env.audit.decisions import Asked, DecisionTap, quietly
from scml_marl_env.audit.taps import Spoken, tapped
from scml_marl_env.config import EnvConfig, level_name
from scml_marl_env.data.log import SCHEMA_NAME, Log
from scml_marl_env.handles import handle
from scml_marl_env.layout import Layout
from scml_marl_env.reward import RewardBook
from scml_marl_env.vector import describe
from scml_marl_env.windows import open_window
from scml_marl_env.world.official import settled

_RATES = ("storage_rate", "disposal_rate", "shortfall_rate")
_BOOKS = ("exogenous_in", "exogenous_in_cost", "exogenous_out", "exogenous_out_revenue")
_PAIRS = ("trading_price", "price_low", "price_high", "signed_in", "signed_out", "signed_cost", "signed_revenue")
_INT32 = np.iinfo(np.int32)


class Recorder(DecisionTap):
    """Records one agent.

    Args:
        agent: which.
        config: of the features, L1 and the reward.
        folder: of the log, which is named after the agent's id.
    """

    def __init__(self, agent: Any, config: EnvConfig, folder: Path) -> None:
        layout = Layout(config)
        self._layout = layout
        self._log: Log | None = None
        self._rewards: RewardBook | None = None
        self._was_bankrupt = False
        self._n_raised = 0
        super().__init__(agent, n_slots=layout.n_slots, n_history=config.history)
        self._begin(folder)

    def raised(self) -> None:
        self._n_raised += 1

    @quietly
    def start_day(self) -> None:
        """Begins a day, after the result of yesterday's."""
        self.close_window()
        awi, log = self.agent._awi, self.log
        if awi.current_step > 0:
            self._settle()
        super().start_day()
        view = self.view
        numbers = {name: getattr(view, name)[0].item() for name in ("day", "balance", "stock", *_BOOKS, *_RATES)}
        log.write("day_start", **numbers, **{name: getattr(view, name)[0].tolist() for name in _PAIRS})
        if awi.is_bankrupt() and not self._was_bankrupt:
            self._was_bankrupt = True
            log.write("bankrupt", day=int(awi.current_step))
            self._reward(float(view.balance[0]), int(view.day[0]), True)

    @quietly
    def closes(self, annotation: Mapping[str, Any], agreement: Mapping[str, int] | None) -> None:
        super().closes(annotation, agreement)
        partner = annotation["seller"] if annotation["buyer"] == self.agent.id else annotation["buyer"]
        if partner not in self.book.slot:
            return
        where = {"day": int(self.view.day[0]), **self._thread(self.book.slot[partner])}
        if agreement is not None:
            day, quantity, price = (int(agreement[name]) for name in ("time", "quantity", "unit_price"))
            self.log.write("contract", **where, quantity=quantity, delta=day - where["day"], t=day, price=price)
        self.log.write("neg_end", **where, result="none" if agreement is None else "agreement")

    def view_window(self, offers: Mapping[str, Any], states: Mapping[str, Any] | None, together: bool) -> None:
        """As a policy sees the windows that it answers together (see `WindowAgent`)."""
        if together:
            self.book.see(offers, states, list(offers))
        else:
            super().view_window(offers, states, together)

    def opened(self, window: Asked) -> None:
        layout = self._layout
        open_window(self._view, 0, layout.rules, layout.columns, self._bounds, self._observation, self._state)
        self._seen = self._of_window()

    def heard(self, window: Asked, k: int, said: Spoken, response: Any) -> None:
        log, view = self.log, self.view
        where = {"day": int(view.day[0]), "round": int(view.round[0, k])}
        if not window.sent:
            self._reward(float(view.balance[0]), int(view.day[0]), False)
            asked = sorted(window.table)
            latest = max(int(view.round[0, j]) for j in asked)
            ref = log.window(self._seen)
            log.write("window", day=where["day"], round=latest, together=window.together, asked=asked, ref=ref)
        raw, sent = _raw(said, response, where["day"]), getattr(response, "outcome", None)
        _, offer = window.table[k]
        log.write(
            "decision",
            **where,
            **self._thread(k),
            op=OPERATION_NAMES[raw[0]],
            valid=said.valid,
            quantity=raw[1],
            delta=raw[2],
            t=where["day"] + raw[2] if raw[0] == OFFER else 0,
            price=raw[3],
            sent=_plain(sent) if raw[0] == OFFER else None,
            offer=_plain(offer),
            action=nearest(self._layout.grid, self._bounds[k], said),
            ref=log.decision({"observation": self._observation[k], "bounds": self._bounds[k]}),
        )

    def end(self, truncated: bool = False) -> Path:
        """Ends the log, after the run; `truncated` if it was stopped before its end.

        Raises:
            RuntimeError: if the recorder failed; the agent played on untouched, but its log is incomplete.
        """
        self._end(truncated)
        if self.error is not None:
            raise RuntimeError(f"The recorder of {type(self.agent).__name__} failed, please report it:\n{self.error}")
        return self.log.path

    @property
    def log(self) -> Log:
        assert self._log is not None
        return self._log

    @quietly
    def _begin(self, folder: Path) -> None:
        """Makes the memory and the log, and writes its first line."""
        layout, awi, view = self._layout, self.agent._awi, self.view
        config, world = layout.config, awi._world
        if awi.horizon != config.horizon or config.privileged_state:
            raise ValueError(
                f"Cannot record features of track={config.track!r}, privileged_state={config.privileged_state} of an "
                f"agent that trades {awi.horizon} days ahead and knows its own factory only."
            )
        n_slots = view.exists.shape[1]
        self._view = handle(view)
        self._observation = np.zeros((n_slots, len(layout.observation_names)), np.float32)
        self._bounds = np.zeros((n_slots, layout.grid.n_bounds), np.int32)
        self._state = np.zeros(len(layout.state_names), np.float32)
        path = folder / f"{_text(self.agent.id)}.jsonl"
        decision = {"observation": self._observation[0], "bounds": self._bounds[0]}
        self._log = Log(path, self._of_window(), decision, n_slots)
        kind, level, last = type(self.agent), int(awi.level), int(awi.n_processes) - 1
        self._log.write(
            "world_start",
            v=SCHEMA_NAME,
            world=_text(world.name),
            agent=_text(self.agent.id),
            agent_type=f"{kind.__module__}:{kind.__qualname__}",
            factory=[_text(name) for name in world.agent_profiles].index(_text(self.agent.id)),
            level=level_name(level, level == last),
            n_levels=last + 1,
            n_days=int(awi.n_steps),
            n_lines=int(awi.n_lines),
            unit_cost=float(awi.profile.cost),
            balance=float(awi.current_balance),
            partners=[_text(partner) for partner in self.book.partners],
            n_suppliers=int(view.n_suppliers[0]),
            config=describe(config),
        )

    @quietly
    def _end(self, truncated: bool) -> None:
        self.close_window()
        world, log, me = self.agent._awi._world, self.log, self.agent.id
        day, balance = int(world.current_step), float(world.current_balance(me))
        if day > 0:
            self._settle()
        self._reward(balance, day, True, truncated)
        score = float(world.scores()[me])
        exceptions = int(world.n_total_agent_exceptions[me]) + self._n_raised
        log.write(
            "world_end", day=day, score=score, balance=balance, bankrupt=bool(world.is_bankrupt[me]),
            windows=log.n_windows, decisions=log.n_decisions, exceptions=exceptions,
        )  # fmt: skip
        log.close()

    def _of_window(self) -> dict[str, np.ndarray]:
        """A copy of what the log keeps of a window."""
        return {"state": self._state.copy()} | {f"view_{name}": x[0].copy() for name, x in self.view._asdict().items()}

    def _settle(self) -> None:
        """Notes the result of the last finished day."""
        world = self.agent._awi._world
        self.log.write("settle", day=int(world.current_step) - 1, **settled(world, self.agent.id))

    def _reward(self, balance: float, day: int, ended: bool, truncated: bool = False) -> None:
        """Notes what has followed the last window, if there is one; without one, what follows counts from now on."""
        if self._rewards is None:
            if not ended:
                self._rewards = RewardBook(self._layout.config, self.view, 0)
                self._rewards.open()
            return
        if self._rewards.closed:
            return
        reward, days = self._rewards.settle(balance, day, ended and not truncated)
        flags = {"terminated": ended and not truncated, "truncated": truncated}
        self.log.write("reward", reward=reward, elapsed=days, **flags)
        self._rewards.closed = ended

    def _thread(self, k: int) -> dict[str, Any]:
        role = "buyer" if self.view.is_buy[0, k] else "seller"
        return {"thread": k, "partner": _text(self.book.partners[k]), "role": role}


def recorded(agent: type, config: EnvConfig, folder: Path) -> type:
    """The agent class with a recorder: it plays the same, and has `end_recording()`, to be called after the run.

    Make it in the process that plays (it has no import path of its own).

    Args:
        agent: an SCML std or oneshot agent class.
        config: of the features, L1 and the reward; what concerns worlds is not used.
        folder: of the logs, one for each agent of the class; one folder for each world.

    Raises:
        TypeError: for anything but such a class.
    """
    base: Any = tapped(agent, "recorder_tap", partial(Recorder, config=config, folder=folder))

    class Recorded(base):
        def end_recording(self, truncated: bool = False) -> Path:
            return self.recorder_tap.end(truncated)

    made: Any = Recorded
    made.__name__, made.__qualname__, made.__module__ = agent.__name__, agent.__qualname__, agent.__module__
    return made


def nearest(grid: ActionGrid, bounds: np.ndarray, said: Spoken) -> int:
    """The action of the grid that is nearest to an answer: same lead, nearest quantity and price (the lower on a tie).

    Args:
        grid: of the actions.
        bounds: int32 (M,), of the thread, for its agenda.
        said: the answer.
    """
    if said.operation != OFFER:
        return int(said.operation)
    quantity = min(grid.quantities, key=lambda q: abs(q - said.quantity))
    level = grid.nearest_level(said.price, *(int(number) for number in bounds[N_PRICES : N_PRICES + 3]))
    return grid.encode(OFFER, min(said.lead, grid.n_leads - 1), quantity, level)


def _raw(said: Spoken, response: Any, day: int) -> tuple[int, int, int, int]:
    """Operation, quantity, lead and price as sent, in whole numbers; of an offer that is refused as well."""
    if said.valid:
        return said.operation, said.quantity, said.lead, said.price
    quantity, when, price = (_whole(value) for value in response.outcome)
    return OFFER, quantity, when - day, price


def _whole(value: Any) -> int:
    try:
        return int(min(max(value, _INT32.min), _INT32.max))
    except (TypeError, ValueError):  # None, or no number
        return 0


def _plain(offer: Any) -> list[Any] | None:
    """An offer as JSON knows it."""
    return None if offer is None else [value.item() if isinstance(value, np.generic) else value for value in offer]


def _text(name: str) -> str:
    """Ids of the lean worlds are a kind of strings."""
    return str.__str__(name)
