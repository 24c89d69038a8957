"""PolicyAgent: any `Policy` as an SCML agent, for official std and oneshot worlds, by the same lines as in training."""

import logging
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from scml_marl_env.actions import CAN_END, END, OFFER, WAIT, ActionGrid
from scml_marl_env.agent import WindowAgent
from scml_marl_env.awi_view import AwiView, is_conserving, partner_count
from scml_marl_env.handles import handle
from scml_marl_env.layout import Layout
from scml_marl_env.policy import Memory, Remembering, check_columns, config_of_policy, load_policy
from scml_marl_env.reward import RewardBook
from scml_marl_env.view import empty_view
from scml_marl_env.windows import answers_of, close_window, new_answered, open_window
from scml_marl_env.world.engine import Answer
from scml_marl_env.world.fast import prudence

FALLBACKS = ("exception", "shape", "type", "range", "masked")
"""What can be wrong with a policy's answer: it raised, gave another number of rows, no integers, none of the A actions,
or an action that the mask forbids."""

_log = logging.getLogger(__name__)


class PolicyAgent(WindowAgent):
    """Plays a factory with a policy. It has as many slots as in training, and more where the factory has more partners.

    Answers that are not legal are replaced by what `Prudent` would do there (no forced business is thrown away, and
    nothing is sold that is not covered), and L1 settles the window as it would have; a window that the policy raised
    in, or whose answers have a wrong shape or type, is replaced as a whole. Each kind is counted and logged once.

    A policy with a memory gets a fresh one in each world, and is told what it earned, as in the environment.

    Its generator is its own, seeded by `seed` and by its place: id, level and days, catalog prices and balance at the
    start. So a world played twice is played alike, and two factories of a world draw different numbers.

    Args:
        policy: "package.module:name" of what returns the policy, such as "algorithms.load:load", or a policy.
        path: its argument, such as the folder of a checkpoint.
        greedy: the most probable action instead of a drawn one.
        seed: a whole number of at least 0.
        conserving: whether production consumes stock; None asks the world, whose attribute `conserving` says so.

    Raises:
        ValueError, TypeError: as `load_policy`; ValueError for a bad seed. In the world, on its first day,
            ValueError for a policy of the other track or with other columns.
    """

    def __init__(
        self,
        *args: Any,
        policy: Any,
        path: Any = None,
        greedy: bool = False,
        seed: int = 0,
        conserving: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
        self.policy = load_policy(policy, path)
        self._greedy, self._seed, self._conserving = greedy, seed, conserving
        self._n_windows = self._n_answers = 0
        self._fallbacks = dict.fromkeys(FALLBACKS, 0)

    def open_book(self) -> AwiView:
        awi = self.awi
        layout = Layout(config_of_policy(self.policy, "oneshot" if awi.is_perishable else "std"))
        check_columns(self.policy, layout.observation_names)
        self._layout = layout
        n_slots = max(layout.n_slots, partner_count(awi))
        view = empty_view(1, n_slots, layout.config.horizon + 1, layout.config.history)
        self._view = handle(view)
        self._observation = np.zeros((n_slots, len(layout.observation_names)), np.float32)
        self._bounds = np.zeros((n_slots, layout.grid.n_bounds), np.int32)
        self._state = np.zeros(len(layout.state_names), np.float32)
        self._answered = new_answered(n_slots)
        self._no_priority = np.zeros(n_slots)
        self.rng = np.random.default_rng([self._seed, _place(self.id, awi)])
        self._memory: Memory | None = None
        if isinstance(self.policy, Remembering):
            self._memory = self.policy.start(n_slots, self.rng)
            self._rewards, self._has_window = RewardBook(layout.config, view, 0), False
        conserving = is_conserving(awi) if self._conserving is None else self._conserving
        return AwiView(awi, view, 0, conserving)

    def init(self) -> None:
        """Opens the book, a window in which nobody is on turn, and rehearses: what has to be compiled is compiled now.

        That may take longer than the 20 seconds that SCML allows for a step of a negotiation.
        """
        super().init()
        PolicyAgent.decide(self)
        self._rehearse()

    def before_step(self) -> None:
        if not hasattr(self, "book"):
            self.open_book()  # raises what SCML has swallowed in `init`, and so ends the world that it cannot play
        super().before_step()

    def decide(self) -> Mapping[int, Answer]:
        layout, bounds = self._layout, self._bounds
        open_window(self._view, 0, layout.rules, layout.columns, bounds, self._observation, self._state)
        on_turn = self.book.view.on_turn[0]
        rows = np.flatnonzero(on_turn)
        chosen = self._choose(rows)
        close_window(self._view, 0, layout.rules, bounds, chosen, self._no_priority, self._answered)
        if self._memory is not None and len(rows):
            self._memory.executed(rows, self._answered.executed[rows])
        return answers_of(on_turn, layout.grid, bounds, self._answered.executed)

    def tournament_report(self) -> dict[str, float]:
        """Counts so far: "windows", "answers" (threads answered), and "fallback_<kind>" for each kind of `FALLBACKS`.

        An exception and a wrong shape or type count once for the window, an action out of range or masked once each.
        """
        counts = {"windows": self._n_windows, "answers": self._n_answers}
        counts |= {f"fallback_{kind}": count for kind, count in self._fallbacks.items()}
        return {name: float(count) for name, count in counts.items()}

    def n_fallbacks(self) -> int:
        """Illegal answers of the policy so far."""
        return sum(self._fallbacks.values())

    def _rehearse(self) -> None:
        """Has the policy answer a thread that can only offer, with a generator and a memory that nobody else sees."""
        observation, bounds = np.zeros_like(self._observation[:1]), self._layout.grid.only_offer()[None]
        rng = np.random.default_rng(0)
        try:
            if not isinstance(self.policy, Remembering):
                self.policy.act(observation, bounds, rng, self._greedy)
            else:
                memory = self.policy.start(len(self._bounds), rng)
                memory.act(np.zeros(1, np.int64), observation, bounds, 0.0, 0.0, rng, self._greedy)
        except Exception as error:  # the first window will say so, and count it
            _log.debug("%s: the policy raised before the first negotiation: %s", self.id, error)

    def _choose(self, rows: np.ndarray) -> np.ndarray:
        """int64 (K,), legal actions of the threads `rows` that wait for an answer, and wait for the others."""
        chosen = np.full(len(self._bounds), WAIT, np.int64)
        if not len(rows):
            return chosen
        self._n_windows += 1
        self._n_answers += len(rows)
        bounds = self._bounds[rows]
        try:
            actions = np.asarray(self._ask(self._observation[rows], bounds))
        except Exception as error:
            self._note("exception", f"{type(error).__name__}: {error}", 1, error)
            actions, illegal = chosen[rows], np.ones(len(rows), bool)
        else:
            illegal = self._illegal(actions, bounds)
        if not illegal.all():
            chosen[rows[~illegal]] = actions[~illegal]
        if illegal.any():
            chosen[rows[illegal]] = _as_prudent(self.book, self._layout.grid, self._bounds)[rows[illegal]]
        return chosen

    def _ask(self, observation: np.ndarray, bounds: np.ndarray) -> Any:
        """What the policy, or its memory, answers to float32 (n, D) and int32 (n, M) of the threads on turn."""
        if self._memory is None:
            return self.policy.act(observation, bounds, self.rng, self._greedy)
        if not self._has_window:
            self._rewards.open()
            self._has_window = True
        view = self.book.view
        earned = self._rewards.settle(float(view.balance[0]), int(view.day[0]), False)
        slots = np.flatnonzero(view.on_turn[0])
        return self._memory.act(slots, observation, bounds, *earned, self.rng, self._greedy)

    def _illegal(self, actions: np.ndarray, bounds: np.ndarray) -> np.ndarray:
        """bool (n,), which answers of the policy are none, for int32 (n, M) `bounds`; counts them."""
        wrong, grid = np.ones(len(bounds), bool), self._layout.grid
        if actions.shape != wrong.shape:
            self._note("shape", f"shape {actions.shape} for {len(bounds)} rows", 1)
            return wrong
        if actions.dtype.kind not in "iu":
            self._note("type", f"{actions.dtype} where integers are due: {actions[:4]}", 1)
            return wrong
        outside = (actions < 0) | (actions >= grid.n_actions)
        if outside.any():
            self._note("range", f"{actions[outside][0]} is outside 0..{grid.n_actions - 1}", int(outside.sum()))
        masked = ~outside & ~grid.allows(bounds, np.where(outside, END, actions))
        if masked.any():
            answer = grid.decode(int(actions[masked][0]))
            self._note("masked", f"(operation, lead, quantity, level) = {answer}", int(masked.sum()))
        return outside | masked

    def _note(self, kind: str, what: str, count: int, error: Exception | None = None) -> None:
        if not self._fallbacks[kind]:
            _log.warning("%s: illegal answer of the policy (%s), replaced: %s", self.id, kind, what, exc_info=error)
        self._fallbacks[kind] += count


def _as_prudent(book: AwiView, grid: ActionGrid, bounds: np.ndarray) -> np.ndarray:
    """int64 (K,), what `Prudent` would answer, on the grid and within int32 (K, M) `bounds`; END where it cannot be."""
    options, answers = np.zeros(prudence.N_OPTIONS), np.zeros((len(bounds), 4), np.int64)
    prudence.write_options(options)
    prudence.prudent_answers(book.view, 0, options, answers)
    actions = np.full(len(bounds), END, np.int64)
    for k in np.flatnonzero(bounds[:, CAN_END]):
        answer = Answer(*answers[k].tolist())
        if answer.operation == OFFER:
            quantity = max((q for q in grid.quantities if q <= answer.quantity), default=1)
            level = grid.nearest_level(answer.price, *(int(number) for number in bounds[k, 3:6]))
            actions[k] = grid.encode(OFFER, min(answer.lead, grid.n_leads - 1), quantity, level)
        elif answer.operation != WAIT:
            actions[k] = answer.operation
    return np.where(grid.allows(bounds, actions), actions, END)


def _place(name: str, awi: Any) -> int:
    """A number of the agent's place in its world, from what every agent may know."""
    text = repr((
        str.__str__(name), int(awi.level), int(awi.n_steps), np.asarray(awi.catalog_prices).tolist(),
        float(awi.current_balance),
    ))  # fmt: skip
    return zlib.crc32(text.encode())
