"""Decision Transformers in play: they remember what was seen, done and earned, and aim at a return."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.interface import VectorEnv, shows_one_team
from algorithms.policy import one_thread
from algorithms.stream_actor import DONE, N_CONDITIONS, RETURN, SEEN, StreamActor, pooled
from algorithms.transformer import Cache

Aim = Callable[[np.ndarray], np.ndarray]
"""Returns float64 (n,), what factories are to earn whose threads see float32 (n, D) at their first decision."""


class Targets(nn.Module):
    """Quantiles of the returns of recorded episodes, of all and of each kind of factory: what is worth aiming at."""

    def __init__(self, kinds: Sequence[str]) -> None:
        """Starts with zeros; `kinds` are columns of the observation that are 1 for episodes of a kind, else 0."""
        super().__init__()
        self.kinds = tuple(kinds)
        self.quantiles: Tensor
        self.register_buffer("quantiles", torch.zeros(1 + len(self.kinds), 101, dtype=torch.float64))

    def fit(self, returns: np.ndarray, observation: np.ndarray, names: Sequence[str]) -> None:
        """Takes in whole episodes; a kind without any, or without a column, gets what all have.

        Args:
            returns: float (P,), of whole episodes.
            observation: float32 (P, D), what a thread saw at the first decision of each.
            names: of its columns.
        """
        for i in range(len(self.quantiles)):
            rows = np.ones(len(returns), bool) if i == 0 else self._is_kind(i - 1, observation, names)
            chosen = returns[rows] if rows.any() else returns
            self.quantiles[i] = torch.from_numpy(np.quantile(chosen, np.linspace(0, 1, self.quantiles.shape[1])))

    def at(self, quantile: float, observation: np.ndarray, names: Sequence[str]) -> np.ndarray:
        """Returns float64 (n,), the returns at a quantile of each row's kind, for float32 (n, D)."""
        table = self.quantiles.cpu().numpy()
        values = [np.interp(quantile, np.linspace(0, 1, table.shape[1]), row) for row in table]
        aims = np.full(len(observation), values[0])
        for i in range(len(self.kinds)):
            aims[self._is_kind(i, observation, names)] = values[1 + i]
        return aims

    def _is_kind(self, i: int, observation: np.ndarray, names: Sequence[str]) -> np.ndarray:
        if self.kinds[i] not in names:
            return np.zeros(len(observation), bool)
        return observation[:, names.index(self.kinds[i])] > 0.5


class Recollection:
    """What a Decision Transformer remembers of G factories with K slots each, all of which it plays.

    Its answers are those that the network gives to the whole streams so far (`StreamActor.forward`), up to rounding.
    A target return is lowered by each reward, as returns-to-go are in the data.

    Attributes:
        goal: float32 (G, 4), priority: float32 (G, K): from the layers above, zero where there are none.
        target: float64 (G,), what each factory was last asked to earn in an episode; NaN before its first decision.
        to_go: float64 (G,), what is left of it, NaN where the episode has ended.
    """

    def __init__(self, actor: StreamActor, aim: Aim, n_factories: int, n_slots: int) -> None:
        """Starts with nothing to remember."""
        g, k = n_factories, n_slots
        self._actor, self._aim_of, self._k = actor, aim, k
        self._by_thread = actor.config.tokens == "thread"
        n_streams = g * k if self._by_thread else g
        self._cache = Cache(actor.transformer, n_streams)
        self._step = np.zeros(n_streams, np.int64)  # of the stream's next decision
        self._action, self._acted = np.zeros((g, k), np.int64), np.zeros((g, k), bool)
        self._seen = torch.zeros(0 if self._by_thread else g * k, actor.config.width)
        self.goal, self.priority = np.zeros((g, N_CONDITIONS - 1), np.float32), np.zeros((g, k), np.float32)
        self.target, self.to_go = np.full(g, np.nan), np.full(g, np.nan)

    @torch.inference_mode()
    def act(
        self,
        factories: np.ndarray,
        slots: np.ndarray,
        observation: np.ndarray,
        bounds: np.ndarray,
        rng: np.random.Generator,
        greedy: bool = False,
    ) -> np.ndarray:
        """Returns int64 (n,), legal actions of threads that answer now; each factory's are one window.

        Args:
            factories, slots: int64 (n,), who they are; those of a factory one after the other, each slot once.
            observation: float32 (n, D).  bounds: int32 (n, M).
            rng: the only source of chance; not read where `greedy`.
            greedy: the most probable choice of each head instead of a drawn one.
        """
        if not len(factories):
            return np.zeros(0, np.int64)
        with one_thread():
            self._aim(factories, observation)
            condition = np.column_stack([self.goal[factories], self.priority[factories, slots]])
            seen = self._actor.look(
                torch.from_numpy(observation), torch.from_numpy(condition) if condition.any() else None
            )
            features = (self._of_threads if self._by_thread else self._of_windows)(factories, slots, seen)

            def uniform(n: int) -> Tensor:
                return torch.from_numpy(rng.random(n, dtype=np.float32))

            action = self._actor.head.sample(features, torch.from_numpy(bounds), uniform, greedy)[0].numpy()
        self.note(factories, slots, action)
        return action

    def note(self, factories: np.ndarray, slots: np.ndarray, action: np.ndarray) -> None:
        """Takes int64 (n,) for the last answers of threads: what was carried out may differ from what was chosen."""
        self._action[factories, slots] = action

    def earn(self, reward: np.ndarray, elapsed: np.ndarray) -> None:
        """Lowers the targets by what the factories have earned, float (G,), during the time that passed, float (G,)."""
        passed = self._actor.config.gamma ** np.asarray(elapsed, np.float64)
        self.to_go = (self.to_go - np.asarray(reward, np.float32)) / passed

    def forget(self, factories: np.ndarray) -> None:
        """Starts factories, int64 (n,), anew."""
        streams = (factories[:, None] * self._k + np.arange(self._k)).ravel() if self._by_thread else factories
        self._cache.forget(streams)
        self._step[streams] = 0
        self._acted[factories] = False
        self.to_go[factories] = np.nan

    def _aim(self, factories: np.ndarray, observation: np.ndarray) -> None:
        """Sets the targets of factories that have none yet."""
        fresh, row = np.unique(factories, return_index=True)
        new = np.isnan(self.to_go[fresh])
        if new.any():
            self.target[fresh[new]] = self._aim_of(observation[row[new]])
            self.to_go[fresh[new]] = self.target[fresh[new]]

    def _of_threads(self, factories: np.ndarray, slots: np.ndarray, seen: Tensor) -> Tensor:
        streams, before = factories * self._k + slots, self._acted[factories, slots]
        done = self._actor.did(torch.from_numpy(self._action[factories, slots]))
        tokens, position = self._append(streams, factories, done, seen, before)
        self._acted[factories, slots] = True
        return self._cache.last(tokens, streams, position)

    def _of_windows(self, factories: np.ndarray, slots: np.ndarray, seen: Tensor) -> Tensor:
        windows, at = np.unique(factories, return_inverse=True)
        n = len(windows)
        old, old_slots = np.nonzero(self._acted[windows])  # the threads of each factory's last window
        rows = torch.from_numpy(windows[old] * self._k + old_slots)
        action = torch.from_numpy(self._action[windows[old], old_slots])
        done = self._actor.answers(self._seen[rows], action, torch.from_numpy(old), n)
        now = self._actor.pool_seen(pooled(seen, torch.from_numpy(at), n))
        self._append(windows, windows, done, now, self._acted[windows].any(1))
        self._acted[windows] = False
        self._acted[factories, slots] = True
        self._seen[torch.from_numpy(factories * self._k + slots)] = seen
        return self._cache.read(seen, factories, (self._step[factories] - 1) * 3 + SEEN)

    def _append(
        self, streams: np.ndarray, factories: np.ndarray, done: Tensor, now: Tensor, before: np.ndarray
    ) -> tuple[Tensor, np.ndarray]:
        """Adds each stream's last answer, where there is one, and its present step up to what is seen; see `Cache`."""
        aim = self._actor.aim_at(torch.from_numpy(self.to_go[factories]))
        tokens = torch.stack([done, aim, now], 1) + self._actor.kind[[DONE, RETURN, SEEN]]
        step = self._step[streams]
        position = step[:, None] * 3 + np.array([DONE - 3, RETURN, SEEN])
        there = np.ones(position.shape, bool)
        there[:, 0] = before
        self._step[streams] = step + 1
        return self._cache.append(streams, tokens, position, there), position


class FactoryMemory:
    """The memory of one factory in one episode, as the env package asks for it."""

    def __init__(self, recollection: Recollection) -> None:
        """Wraps a recollection of one factory."""
        self.recollection = recollection

    def act(
        self,
        slots: np.ndarray,
        observation: np.ndarray,
        bounds: np.ndarray,
        reward: float,
        elapsed: float,
        rng: np.random.Generator,
        greedy: bool = False,
    ) -> np.ndarray:
        """Returns int64 (n,), legal actions of the threads `slots` int64 (n,) that answer now.

        Args:
            slots: which threads.
            observation: float32 (n, D).  bounds: int32 (n, M).
            reward, elapsed: what the factory got since its last window, and the time since; 0 at its first.
            rng, greedy: see `Recollection.act`.
        """
        self.recollection.earn(np.array([reward]), np.array([elapsed]))
        return self.recollection.act(np.zeros(len(slots), np.int64), slots, observation, bounds, rng, greedy)

    def executed(self, slots: np.ndarray, action: np.ndarray) -> None:
        """Takes what was carried out of the last answers of `slots`, int64 (n,)."""
        self.recollection.note(np.zeros(len(slots), np.int64), slots, action)


class WorldsPlayer:
    """Plays every team of a vector environment, with a memory of each, see `algorithms.policy.Player`."""

    def __init__(self, actor: StreamActor, aim: Aim, env: VectorEnv) -> None:
        """Starts with nothing to remember; the environment is to be reset.

        Raises:
            ValueError: if it shows one team at a time.
        """
        if shows_one_team(env):
            raise ValueError("A policy with a memory plays worlds that show all teams; make them with rows='all'.")
        self._k = env.n_agents // env.n_teams
        self.recollection = Recollection(actor, aim, env.n_worlds * env.n_teams, self._k)
        self._waiting: tuple[np.ndarray, ...] | None = None

    def act_all(self, env: VectorEnv, rng: np.random.Generator, greedy: bool = False) -> np.ndarray:
        """Returns int64 (E, N), 0 where an agent is not active."""
        world, agent = np.nonzero(env.active)
        factories, slots = world * env.n_teams + agent // self._k, agent % self._k
        chosen = self.recollection.act(
            factories, slots, env.observation[env.active], env.bounds[env.active], rng, greedy
        )
        self._waiting = (world, agent, factories, slots)
        action = np.zeros(env.active.shape, np.int64)
        action[world, agent] = chosen
        return action

    def receive(self, env: VectorEnv) -> None:
        """Takes in what the last step did and brought; an episode that it ended is given its "target"."""
        memory = self.recollection
        if self._waiting is not None:
            world, agent, factories, slots = self._waiting
            memory.note(factories, slots, env.executed[world, agent])
            self._waiting = None
        for episode in env.episodes:
            if "target" not in episode:
                targets = memory.target.reshape(env.n_worlds, -1)[episode["world"]]
                episode["target"] = targets[: len(episode["return"])].tolist()
                targets[:] = np.nan
        memory.earn(env.reward.ravel(), env.elapsed.ravel())
        memory.forget(np.flatnonzero((env.terminated | env.truncated).ravel()))


class DecisionTransformerPolicy:
    """A trained Decision Transformer, which plays with a memory: `start` one for a factory, or a `player` of many.

    Attributes:
        target_return: what a factory is to earn in an episode, in units of reward; None for the quantile's.
        target_quantile: the same as a quantile of the returns of recorded episodes of the factory's kind.
    """

    def __init__(
        self,
        actor: StreamActor,
        targets: Targets,
        observation_names: Sequence[str],
        config: dict[str, Any],
        target_return: float | None = None,
        target_quantile: float = 0.9,
    ) -> None:
        """Wraps a network on the CPU; it is used as it is, so a learner's policy follows the learner.

        Args:
            actor, targets: the network, and the returns that it learnt from.
            observation_names: columns that it sees.
            config: of the checkpoint.
            target_return, target_quantile: see the class.
        """
        if not 0 <= target_quantile <= 1:
            raise ValueError(f"A target quantile lies in [0, 1], got {target_quantile}.")
        self.actor, self.observation_names, self.config = actor, list(observation_names), config
        self._targets, self.target_return, self.target_quantile = targets, target_return, target_quantile

    def aiming(
        self, target_return: float | None = None, target_quantile: float | None = None
    ) -> "DecisionTransformerPolicy":
        """Returns the same policy with another aim."""
        quantile = self.target_quantile if target_quantile is None else target_quantile
        return type(self)(self.actor, self._targets, self.observation_names, self.config, target_return, quantile)

    def start(self, n_slots: int, rng: np.random.Generator) -> FactoryMemory:
        """Returns an empty memory of a factory with at most `n_slots` threads, for one episode."""
        return FactoryMemory(Recollection(self.actor, self.aim, 1, n_slots))

    def player(self, env: VectorEnv) -> WorldsPlayer:
        """Returns what plays all teams of a vector environment from its next reset on."""
        return WorldsPlayer(self.actor, self.aim, env)

    def act(
        self, observation: np.ndarray, bounds: np.ndarray, rng: np.random.Generator, greedy: bool = False
    ) -> np.ndarray:
        """Returns int64 (n,): what each row would be answered as the first decision of an episode, alone."""
        n = len(observation)
        memory = Recollection(self.actor, self.aim, max(n, 1), 1)
        return memory.act(np.arange(n), np.zeros(n, np.int64), observation, bounds, rng, greedy)

    def aim(self, observation: np.ndarray) -> np.ndarray:
        """Returns float64 (n,), what factories aim at whose threads see float32 (n, D) at first."""
        if self.target_return is not None:
            return np.full(len(observation), float(self.target_return))
        return self._targets.at(self.target_quantile, observation, self.observation_names)
