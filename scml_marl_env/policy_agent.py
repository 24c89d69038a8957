"""PolicyAgent: any policy as an SCML agent, by the lines of training.

A window goes AWI -> FactoryView -> bounds, observation -> policy -> L1's joint rule -> answers, through the functions
that the environments call (`windows.open_window`, `close_window`, `answers_of`).
"""

import logging
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from scml_marl_env.actions import CAN_WAIT, END, OFFER
from scml_marl_env.agent import WindowAgent
from scml_marl_env.array_env import Layout
from scml_marl_env.awi_view import AwiView, partner_count
from scml_marl_env.config import EnvConfig
from scml_marl_env.handles import handle
from scml_marl_env.layers.l1_shield import COUNTS
from scml_marl_env.policy import Policy, load_policy
from scml_marl_env.view import empty_view
from scml_marl_env.windows import Answered, answers_of, close_window, open_window
from scml_marl_env.world.engine import Answer

_LOG = logging.getLogger(__name__)
_RELEVANT = (
    "track", "shield", "useful", "observation", "history", "price_levels", "processes", "factories_per_level", "slots",
)  # fmt: skip


class PolicyAgent(WindowAgent):
    """Plays std or oneshot worlds with a policy.

    Equal arguments, worlds and places give equal games: the policy draws from a generator that follows from `seed` and
    from the factory's own id and world, and never from the global ones.

    A policy that raises, or answers with something that its mask forbids, does not stop the agent. Such an answer
    becomes the smallest offer for the earliest day at the factory's own best price, which keeps the negotiation open
    and risks next to nothing, or the end of the negotiation where no offer is allowed. It is counted
    (`tournament_report`), and logged once for each cause.

    Attributes:
        counts: windows, decisions (answers asked of the policy), changed (by L1's joint rule), and fallbacks by cause:
            `fallback_exception`, `fallback_illegal`.
    """

    def __init__(
        self,
        *args: Any,
        policy: str | Policy,
        path: str | None = None,
        greedy: bool = False,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        """Makes the agent; a policy that cannot be loaded, or that reads columns which there are not, is refused here.

        Args:
            *args: of SCML.
            policy: what decides, or the name of the function that makes it, "algorithms.checkpoint:load" for example.
            path: argument of that function, if it takes one.
            greedy: the most probable actions instead of drawn ones.
            seed: of the policy's draws.
            **kwargs: of SCML.

        Raises:
            ValueError: if the policy cannot be loaded or does not fit.
        """
        super().__init__(*args, **kwargs)
        self._named, self._path = policy, path
        self._greedy, self._seed = greedy, seed
        self.config = _config(self.policy)
        self.layout = Layout(self.config)
        read, shown = self.policy.observation_names, self.layout.observation_names
        if read and read != shown:
            raise ValueError(
                f"The policy reads {len(read)} columns and would be shown {len(shown)} others: it was trained with "
                "another version of the features."
            )
        self.counts = dict.fromkeys(("windows", "decisions", "changed", "fallback_exception", "fallback_illegal"), 0)

    @property
    def policy(self) -> Policy:
        """What decides."""
        if not isinstance(self._named, str):
            return self._named
        return load_policy(self._named) if self._path is None else load_policy(self._named, path=self._path)

    def before_step(self) -> None:
        if self.awi.horizon != self.config.horizon:  # said here because SCML ignores what init() raises
            raise ValueError(
                f"This policy plays the {self.config.track} track, with offers up to {self.config.horizon} days ahead, "
                f"and this world has {self.awi.horizon}."
            )
        super().before_step()

    def open_book(self) -> AwiView:
        awi = self.awi
        layout, partners = self.layout, partner_count(awi)
        n = max(partners, self.config.n_slots)  # some features are shares of the slots
        view = empty_view(1, n, self.config.horizon + 1, self.config.history)
        book = AwiView(awi, view, 0, getattr(awi._world, "conserving", False))
        self._view = handle(view)
        self._bounds = np.zeros((n, layout.grid.n_bounds), np.int32)
        self._bounds[:, CAN_WAIT] = 1
        self._observation = np.zeros((partners, len(layout.observation_names)), np.float32)
        self._state = np.zeros(len(layout.state_names), np.float32)
        self._priority = np.zeros(n, np.float64)
        self._answered = Answered(np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros((2, 2, len(COUNTS)), np.int64))
        place = f"{self.id}/{awi.n_steps}/{np.asarray(awi.catalog_prices).tolist()}/{awi.current_balance}"
        self._rng = np.random.default_rng([self._seed, zlib.crc32(place.encode())])
        return book

    def decide(self) -> Mapping[int, Answer]:
        view, layout, bounds, observation = self.book.view, self.layout, self._bounds, self._observation
        open_window(self._view, 0, layout.rules, layout.columns, bounds[: len(observation)], observation, self._state)
        asked = np.flatnonzero(view.on_turn[0])
        chosen = np.zeros(len(bounds), np.int64)
        chosen[asked] = self.choose(observation[asked], bounds[asked])
        close_window(self._view, 0, layout.rules, bounds, chosen, self._priority, self._answered, False)
        self.counts["windows"] += 1
        self.counts["decisions"] += len(asked)
        self.counts["changed"] += int((self._answered.executed != chosen).sum())
        return answers_of(view, 0, layout.grid, bounds, self._answered.executed)

    def choose(self, observation: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """Returns int64 (n,): what the policy does, with a safe answer where it fails."""
        mask = self.layout.grid.mask(bounds)
        try:
            actions = np.asarray(self.policy.act(observation, bounds, self._rng, self._greedy))
        except Exception as error:
            self._fall_back("exception", len(mask), error)
            return safe_answers(mask)
        rows = np.arange(len(mask))
        if actions.shape != (len(mask),) or actions.dtype.kind not in "iu":
            self._fall_back("illegal", len(mask), f"{actions.dtype} of shape {actions.shape}, not int64 ({len(mask)},)")
            return safe_answers(mask)
        legal = (actions >= 0) & (actions < mask.shape[1])
        legal &= mask[rows, np.where(legal, actions, 0)].astype(bool)
        if legal.all():
            return actions
        self._fall_back("illegal", int((~legal).sum()), f"action {actions[~legal][0]} is forbidden by its mask")
        return np.where(legal, actions, safe_answers(mask))

    def tournament_report(self) -> dict[str, float]:
        """The counts, for a tournament's record."""
        return {name: float(count) for name, count in self.counts.items()}

    def _fall_back(self, cause: str, n: int, what: object) -> None:
        if not self.counts[f"fallback_{cause}"]:
            _LOG.warning("%s (%s) answers safely instead of by its policy: %r", type(self).__name__, self.id, what)
        self.counts[f"fallback_{cause}"] += n


def safe_answers(mask: np.ndarray) -> np.ndarray:
    """Returns int64 (n,) for bool-like masks (n, A): the first offer that is allowed, which is the smallest one for the
    earliest day at the best price; END where none is."""
    offers = mask[:, OFFER:].astype(bool)
    return np.where(offers.any(1), OFFER + offers.argmax(1), END)


def _config(policy: Policy) -> EnvConfig:
    """What of the policy's environment concerns an agent."""
    saved = policy.config.get("env", {})
    options = {name: saved[name] for name in _RELEVANT if name in saved}
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    if options.get("track") == "oneshot":
        options.setdefault("processes", 2)
    return EnvConfig(**options)
