"""FactoryEnv: the whole factory as one Gymnasium agent that answers all its threads at once."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from scml_marl_env.actions import WAIT
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.config import EnvConfig
from scml_marl_env.env import check_action, check_seed
from scml_marl_env.features import LIMIT


class FactoryEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One controlled factory; a step is a window, as in `ThreadEnv`, of which this is the joint view.

    Observation: float32 (K, D), a row for each slot, columns named by `observation_names`.
    Action: MultiDiscrete of A for each of the K slots; slots that have nothing to answer wait (0).
    Info: action_mask, int8 (K, A); the flat bool (K * A,) that sb3-contrib's MaskablePPO asks for is `action_masks()`;
        active, bool (K,); the rest as in `ThreadEnv`.
    Reward, termination and truncation as in `ThreadEnv`. An action that the mask forbids is replaced and counted.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}

    def __init__(self, config: EnvConfig) -> None:
        if config.n_controlled != 1:
            raise ValueError(
                f"FactoryEnv plays one factory, got controlled={config.controlled!r}; use make() for more."
            )
        self.config = config
        self.render_mode = config.render_mode
        self._game = ArrayEnv(config)
        self.action_grid = self._game.grid
        self.observation_names = self._game.layout.observation_names
        shape = (config.n_slots, len(self.observation_names))
        self.observation_space = spaces.Box(-LIMIT, LIMIT, shape, np.float32)
        self.action_space = spaces.MultiDiscrete(np.full(config.n_slots, self.action_grid.n_actions))

    @property
    def game(self) -> ArrayEnv:
        """The same world as arrays."""
        return self._game

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Draws a new world; `seed` fixes it and those of the following resets without one."""
        if seed is not None:
            check_seed(seed)
        super().reset(seed=seed)
        self._game.reset(int(self.np_random.integers(2**31 - 1)) if seed is None else int(seed))
        return self._game.arrays.observation.copy(), self._info()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Answers the window with int (K,) actions.

        Raises:
            RuntimeError: before reset, or after the episode ended.
            ValueError: for a wrong shape or value, and with `strict=True` for a forbidden action; nothing has happened
            then.
        """
        if self._game.window is None:
            raise RuntimeError("step() after the episode ended, or before it began; call reset() first.")
        action = np.asarray(action)
        if action.shape != (self.config.n_slots,):
            raise ValueError(
                f"step() takes one action for each of the {self.config.n_slots} slots, got shape {action.shape}."
            )
        checked = [check_action(item, self.action_grid.n_actions, f"slot {k}") for k, item in enumerate(action)]
        self._game.step(np.array(checked, dtype=np.int64))
        arrays = self._game.arrays
        reward, terminated, truncated = float(arrays.reward[0]), bool(arrays.terminated[0]), bool(arrays.truncated[0])
        return arrays.observation.copy(), reward, terminated, truncated, self._info()

    def action_masks(self) -> np.ndarray:
        """bool (K * A,), the masks of all slots one after the other, as MaskablePPO takes them."""
        return self._mask().reshape(-1).astype(bool)

    def render(self) -> Any:
        """The current day: a table (`ansi`) or a picture uint8 (H, W, 3) (`rgb_array`)."""
        if self.render_mode is None:
            return None
        from scml_marl_env import render

        return render.day_table(self._game) if self.render_mode == "ansi" else render.day_picture(self._game)

    def close(self) -> None:
        self._game.close()

    def _mask(self) -> np.ndarray:
        arrays = self._game.arrays
        mask = self.action_grid.mask(arrays.bounds).astype(np.int8)
        mask[~arrays.active] = 0
        mask[~arrays.active, WAIT] = 1
        return mask

    def _info(self) -> dict[str, Any]:
        game = self._game
        info = {
            "action_mask": self._mask(),
            "active": game.arrays.active.copy(),
            "partners": list(game.engine.partners_of(0)),
            "executed": game.arrays.executed.copy(),
            "elapsed": float(game.arrays.elapsed[0]),
            "reward_terms": dict(game.books[0].terms),
            "changed": dict(game.changed),
        }
        if game.window is None:
            info["episode"] = game.statistics()
        return info
