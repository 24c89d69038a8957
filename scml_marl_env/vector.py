"""VectorEnv: E worlds that step together, as arrays, in this process or in worker processes."""

import warnings
import zlib
from collections.abc import Mapping
from dataclasses import fields, replace
from types import TracebackType
from typing import Any, Literal

import numpy as np

from scml_marl_env.config import EnvConfig
from scml_marl_env.env import check_seed
from scml_marl_env.handles import zeroed
from scml_marl_env.layout import Layout
from scml_marl_env.vector_pool import Pool
from scml_marl_env.vector_worker import Shard, VectorArrays

_NOT_BEGUN = "before the first reset()"
_FAILED = "after a call that failed or was interrupted"


class VectorEnv:
    """E worlds of one config. Every array is the same object for the life of the environment, written in place.

    Letters: F controlled factories (teams) of K slots, N = F*K agents (agent n is slot n % K of team n // K), D, S and
    M columns. `reset` and `step` write what the agents see now. The rows of a team (observation, state and bounds) are
    written anew when it has agents to answer and when it ends. In between they keep what it was last shown; `refresh`
    brings all of them up to date.
        observation: float32 (E, N, D).
        state: float32 (E, F, S).
        bounds: int32 (E, N, M); `action_grid.mask(bounds)` are the legal actions.
        active: bool (E, N), the agent has a decision to take now; the actions of others are ignored.
        team: int64 (E,), the team that these agents belong to (to be read only).
    `step` also writes what has just happened:
        reward: float32 (E, F).
        elapsed: float32 (E, F), days that passed: the step is discounted by gamma ** elapsed.
        terminated, truncated: bool (E, F), the team ended at this step. From then on it is inactive and earns nothing
            until every team of its world has ended. In that very step the world is reset (Gymnasium's
            `AutoresetMode.SAME_STEP`): what the agents see is the new episode, the results are those of the old one.
        executed: int64 (E, N), what L1 made of the actions; wait (0) for agents that were not active.
        final_observation, final_state, final_active, final_bounds: rows of a team as they stood when it ended, valid
            where terminated or truncated is true at this step.
        episodes: list of dicts, the statistics of ended episodes: those of `ArrayEnv.statistics`, and which `episode`
            of which `world`. The caller clears it.

    With rows="window" a world of several teams shows one at a time, the one whose window it is: N = K agents, the slots
    of team `team[e]`, and one state, (E, 1, S). Rewards and ends are told of all F teams as ever. Where one policy
    plays many factories this is all that it needs; it takes a fraction of the memory, and the engine then works in the
    processor's caches. `everyone` shows all teams where they are wanted. There are no `final_*` (arrays of 0 worlds):
    nothing is ever truncated.

    Episode i of world e is drawn from (seed, e, i) alone, so that neither the number of worlds nor that of workers
    changes it.

    A worker that dies is restarted: its worlds are truncated at that step with zero reward, their final rows are the
    last ones seen, `world_error` of their episodes says why, and each begins its next episode. An error inside a world
    is raised here, with workers or without, and the environment must be reset.
    """

    def __init__(
        self,
        config: EnvConfig,
        n_worlds: int = 1,
        seed: int = 0,
        workers: int = 0,
        rows: Literal["all", "window"] = "all",
    ) -> None:
        """Makes the worlds, in which nothing has begun: `reset` comes first.

        Args:
            config: of every world.
            n_worlds: E.
            seed: fixes every episode of every world.
            workers: processes that play the worlds, at most E; 0 plays them in this one. With engine="fast" they are
                threads of this process, 0 and 1 being its own.
            rows: show the agents of all teams, or of the team whose window it is: see the class. "window" needs
                engine="fast" and no `max_cycles`; of one team it is "all".

        Raises:
            TypeError: if `config` is no EnvConfig.
            ValueError: for a number out of range.
        """
        if not isinstance(config, EnvConfig):
            raise TypeError(f"VectorEnv takes an EnvConfig, got {config!r}; make_vector() takes an id and options.")
        self.n_worlds = _whole("n_worlds", n_worlds, 1)
        self.n_workers = _whole("workers", workers, 0)
        if self.n_workers > self.n_worlds:
            raise ValueError(f"workers={workers} for n_worlds={n_worlds}: a worker plays at least one world.")
        self._seed = check_seed(seed)
        _check_rows(rows, config)
        layout = Layout(config, rows == "window")
        self.rows: Literal["all", "window"] = "window" if layout.one_team else "all"
        self.config = describe(config)
        self.n_agents, self.n_teams = layout.n_agents, layout.n_factories
        self.action_grid = layout.grid
        self.agent_names = layout.agent_names
        self.observation_names = layout.observation_names
        self.state_names = layout.state_names
        self.episodes: list[dict[str, Any]] = []
        self._must_reset: str | None = _NOT_BEGUN
        self._is_stepping = self._is_closed = False
        self._worlds: Any
        if config.engine == "fast":
            from scml_marl_env.fast_shard import FastShard

            memory = zeroed(VectorArrays.size_of(layout, self.n_worlds))
            arrays = VectorArrays.over(memory, layout, self.n_worlds)
            self._worlds = FastShard(config, layout, arrays, max(1, self.n_workers))
        elif self.n_workers:
            portable = replace(config, opponents=self.config["opponents"])
            self._worlds = Pool(portable, layout, self.n_worlds, self.n_workers)
        else:
            private = bytearray(VectorArrays.size_of(layout, self.n_worlds))
            self._worlds = Shard(config, VectorArrays.over(private, layout, self.n_worlds), range(self.n_worlds))
        self._arrays = arrays = self._worlds.arrays
        now = arrays.now
        self.observation, self.state, self.bounds, self.active = now.observation, now.state, now.bounds, now.active
        self.reward, self.elapsed, self.executed = now.reward, now.elapsed, now.executed
        self.terminated, self.truncated, self.team = now.terminated, now.truncated, arrays.team
        self.final_observation, self.final_state = arrays.final_observation, arrays.final_state
        self.final_active, self.final_bounds = arrays.final_active, arrays.final_bounds

    def reset(self, seed: int | None = None) -> None:
        """Starts every world anew and clears `episodes`: from the first episodes of `seed`, or with None the next ones.

        Raises:
            ValueError: if `seed` is neither None nor a whole number of at least 0; nothing has happened then.
            RuntimeError: after close(), or while a step is under way.
        """
        self._check_free("reset")
        if seed is not None:
            self._seed = check_seed(seed)
        first = seed is not None or self._must_reset == _NOT_BEGUN
        episodes = {e: 0 if first else int(episode) + 1 for e, episode in enumerate(self._arrays.episode)}
        self._forget_ends()
        self._must_reset = _FAILED
        self.episodes += self._worlds.begin(self._seed, episodes)
        self._must_reset = None

    def step(self, actions: np.ndarray, worlds: np.ndarray | None = None) -> None:
        """Plays int (E, N) `actions`, 0..A-1 for every active agent; see the class for what it writes.

        `worlds`, bool (E,), are those that are stepped, all if None; the others rest, with results of zero.

        L1 replaces and counts an action that the mask forbids. With `strict` it raises ValueError instead, and the
        environment must be reset, because other worlds have gone on.

        Raises:
            ValueError: for a wrong shape, type or number; nothing has happened then.
            RuntimeError: before reset(), after close() or an error, or while a step is under way.
        """
        self.step_async(actions, worlds)
        self.step_wait()

    def step_async(self, actions: np.ndarray, worlds: np.ndarray | None = None) -> None:
        """Begins a step, during which the arrays change; `step_wait` ends it. Arguments and errors as of `step`."""
        self._check_ready("step")
        self._write_actions(actions)
        self._arrays.stepped[:] = True if worlds is None else worlds
        self._must_reset = _FAILED
        self._worlds.start_step()
        self._is_stepping = True

    def step_wait(self) -> None:
        """Waits for the end of the step that `step_async` began."""
        self._check_open("step_wait")
        if not self._is_stepping:
            raise RuntimeError("step_wait() without a step under way; call step_async() first.")
        self._is_stepping = False
        self.episodes += self._worlds.step()
        self._must_reset = None

    def refresh(self) -> None:
        """Writes observation, state and bounds of every team that is shown, as of now.

        A learner needs them for a last value; with rows="window" it asks `everyone`.

        Raises:
            RuntimeError: before reset(), after close() or an error, or while a step is under way.
        """
        self._check_ready("refresh")
        self._must_reset = _FAILED
        self._worlds.refresh()
        self._must_reset = None

    def everyone(self) -> tuple[np.ndarray, np.ndarray]:
        """What every team sees now, float32 (E, F*K, D) and (E, F, S): the caller's, while the own rows may be fewer.

        Raises:
            RuntimeError: before reset(), after close() or an error, or while a step is under way.
        """
        self._check_ready("everyone")
        if self.rows == "window":
            return self._worlds.everyone()
        self.refresh()
        return self.observation.copy(), self.state.copy()

    def state_dict(self) -> dict[str, Any]:
        """What rebuilds this moment: seed and episodes, and for the real engine the actions since they began.

        The fast engine's state is kept as it is. Numbers, strings, arrays, and lists and dicts of them. The results of
        the last step and `episodes` are no part.
        """
        self._check_ready("state_dict")
        saved = {"seed": self._seed, "episode": self._arrays.episode.copy(), "config": self.config}
        if self.rows != "all":
            saved["rows"] = self.rows
        if isinstance(self._worlds, Shard | Pool):
            self.refresh()  # a replay would not know which rows were refreshed before
            saved["check"] = self._fingerprints()
            saved["actions"] = self._journals(saved)
        else:
            saved["arrays"] = self._worlds.snapshot()
        return saved

    def _journals(self, saved: dict[str, Any]) -> list[np.ndarray]:
        """The actions of each world since its episode began; one whose worker died is saved as its next episode."""
        assert isinstance(self._worlds, Shard | Pool)
        self._must_reset = _FAILED
        journals = self._worlds.journals()
        self._must_reset = None
        for e in range(self.n_worlds):
            if e not in journals:
                journals[e] = np.zeros((0, self.n_agents), np.int32)
                saved["episode"][e] += 1
                saved["check"][e] = -1
        return [journals[e] for e in range(self.n_worlds)]

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Goes back to a `state_dict` and clears `episodes`. What follows is then bit for bit what followed there.

        Warns if a replay of the real engine led elsewhere, as it may with another version of SCML; play goes on from
        there.

        Raises:
            ValueError: if the state is that of another environment; nothing has happened then.
        """
        self._check_free("load_state_dict")
        seed, episodes = self._checked(saved)
        if not isinstance(self._worlds, Shard | Pool):
            self._worlds.check_fits(saved["arrays"])
            self._forget_ends()
            self._seed = seed
            self._worlds.restore(seed, episodes, saved["arrays"])
            self._must_reset = None
            return
        journals, check = self._checked_journals(saved), np.asarray(saved["check"])
        self._seed = seed
        self._forget_ends()
        self._must_reset = _FAILED
        self._worlds.replay(seed, episodes, journals)
        self._worlds.refresh()
        self._must_reset = None
        differ = [e for e, mark in enumerate(self._fingerprints()) if check[e] not in (-1, mark)]
        if differ:
            warnings.warn(
                f"The replay of worlds {differ} did not lead to the saved moment. It does with the same versions of "
                "scml, negmas and this package.",
                RuntimeWarning,
                stacklevel=2,
            )

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays of the worlds: what is shown, and with engine="fast" the worlds themselves."""
        shown = sum(array.nbytes for array in self._arrays.now)
        return shown if isinstance(self._worlds, Shard | Pool) else self._worlds.nbytes

    def close(self) -> None:
        """Ends every world and every worker. The arrays keep their last contents. May be called again."""
        if not self._is_closed:
            self._is_closed = True
            self._worlds.close()

    def __enter__(self) -> "VectorEnv":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_actions(self, actions: np.ndarray) -> None:
        actions = np.asarray(actions)
        shape = (self.n_worlds, self.n_agents)
        if actions.shape != shape:
            raise ValueError(f"step() takes actions of shape (E, N) = {shape}, got {actions.shape}.")
        if actions.dtype.kind not in "iu":
            raise ValueError(f"step() takes whole numbers, got an array of {actions.dtype}; cast it to int64.")
        wrong = self._worlds.take(actions, self.action_grid.n_actions)
        if wrong >= 0:
            e, n = divmod(wrong, self.n_agents)
            raise ValueError(
                f"Actions are 0..{self.action_grid.n_actions - 1}, got {actions[e, n]} for {self.agent_names[n]} of "
                f"world {e}."
            )

    def _forget_ends(self) -> None:
        self.episodes.clear()
        for array in (self.final_observation, self.final_state, self.final_active, self.final_bounds):
            array[:] = 0

    def _fingerprints(self) -> np.ndarray:
        """int64 (E,), a checksum of what the agents of each world see."""
        now = self._arrays.now
        marks = np.zeros(self.n_worlds, np.int64)
        for e in range(self.n_worlds):
            for array in (now.observation, now.state, now.bounds, now.active):
                marks[e] = zlib.crc32(array[e].tobytes(), int(marks[e]))
        return marks

    def _checked(self, saved: Mapping[str, Any]) -> tuple[int, dict[int, int]]:
        """(seed, episode of each world) of a state that fits this environment."""
        parts = {"seed", "episode", "config"}
        parts |= {"actions", "check"} if isinstance(self._worlds, Shard | Pool) else {"arrays"}
        if not isinstance(saved, Mapping) or not parts <= set(saved):
            raise ValueError(f"load_state_dict() takes what state_dict() returned, a dict of {sorted(parts)}.")
        if saved.get("rows", "all") != self.rows:
            raise ValueError(
                f"The saved worlds show rows={saved.get('rows', 'all')!r}, these rows={self.rows!r}, as run.py has "
                "them where several factories learn. Make them with the rows of the saved ones; a policy alone goes on "
                "in a new run with --init."
            )
        there, here = saved["config"], self.config
        differ = [name for name in here if name != "render_mode" and there.get(name) != here[name]]
        if differ:
            known, own = ({name: config.get(name) for name in differ} for config in (there, here))
            raise ValueError(f"The saved worlds were made with {known}, these with {own}.")
        episode = np.asarray(saved["episode"])
        if len(episode) != self.n_worlds:
            raise ValueError(f"The state is one of {len(episode)} worlds, and here are {self.n_worlds}.")
        return check_seed(int(saved["seed"])), dict(enumerate(episode.tolist()))

    def _checked_journals(self, saved: Mapping[str, Any]) -> dict[int, np.ndarray]:
        """The actions of each world since its episode began."""
        journals = {e: np.asarray(journal) for e, journal in enumerate(saved["actions"])}
        if not len(journals) == len(saved["check"]) == self.n_worlds:
            raise ValueError(f"The state is one of {len(journals)} worlds, and here are {self.n_worlds}.")
        for e, journal in journals.items():
            if journal.dtype.kind not in "iu" or journal.shape[1:] != (self.n_agents,):
                raise ValueError(
                    f"The actions of world {e} must be whole numbers of shape (T, {self.n_agents}), "
                    f"got {journal.dtype} of shape {journal.shape}."
                )
        return journals

    def _check_open(self, call: str) -> None:
        if self._is_closed:
            raise RuntimeError(f"{call}() after close(); make a new environment.")

    def _check_free(self, call: str) -> None:
        self._check_open(call)
        if self._is_stepping:
            raise RuntimeError(f"{call}() while a step is under way; call step_wait() first.")

    def _check_ready(self, call: str) -> None:
        self._check_free(call)
        if self._must_reset is not None:
            raise RuntimeError(f"{call}() {self._must_reset}; call reset() first.")


def describe(config: EnvConfig) -> dict[str, Any]:
    """The fields of a config as JSON knows them: tuples are lists, classes their import paths."""
    return {field.name: _plain(getattr(config, field.name)) for field in fields(config)}


def _plain(value: Any) -> Any:
    if isinstance(value, type):
        return f"{value.__module__}:{value.__qualname__}"
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _check_rows(rows: str, config: EnvConfig) -> None:
    if rows not in ("all", "window"):
        raise ValueError(f"rows must be 'all' or 'window', got {rows!r}.")
    if rows == "window" and (config.engine != "fast" or config.max_cycles is not None):
        raise ValueError(
            "rows='window' keeps no view of a team whose episode is cut, and needs engine='fast' and max_cycles=None "
            f"therefore; got engine={config.engine!r} and max_cycles={config.max_cycles!r}."
        )


def _whole(name: str, value: Any, low: int) -> int:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")
    return int(value)
