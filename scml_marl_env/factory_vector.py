"""FactoryVectorEnv: E worlds as a Gymnasium `VectorEnv`; each factory is one agent that answers all its threads."""

from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from scml_marl_env.actions import WAIT
from scml_marl_env.config import EnvConfig
from scml_marl_env.env import check_seed
from scml_marl_env.features import LIMIT
from scml_marl_env.vector import VectorEnv as ArrayVectorEnv


class FactoryVectorEnv(VectorEnv):
    """The factory view of `FactoryEnv`, E at a time, on either engine.

    Observation: float32 (E, K, D). Action: int (E, K), of a MultiDiscrete; slots that have nothing to answer wait (0).
    A world whose episode ends is reset within the step (`AutoresetMode.SAME_STEP`): the observation is the new
    episode's, `infos["final_obs"]` holds the last one of the old and `infos["final_info"]["episode"]` its statistics,
    both where `infos["_final_obs"]` is true. Infos besides: active, bool (E, K); executed, int64 (E, K); elapsed,
    float32 (E,), days that passed; action_mask, int8 (E, K, A), unless `masks=False` leaves out this large array, of
    which `bounds`, int32 (E, K, M), is the compact form (`action_grid.mask(bounds)`).
    """

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(
        self, config: EnvConfig, num_envs: int = 1, seed: int = 0, workers: int = 0, masks: bool = True
    ) -> None:
        """Makes the worlds.

        Args:
            config: of every world; one controlled factory.
            num_envs: E.
            seed: of the first reset without one.
            workers: see `scml_marl_env.vector.VectorEnv`.
            masks: put the flat action masks into the infos.

        Raises:
            ValueError: for several controlled factories, or a number out of range.
        """
        if config.n_controlled != 1:
            raise ValueError(f"FactoryVectorEnv plays one factory in each world, got controlled={config.controlled!r}.")
        self.arrays = ArrayVectorEnv(config, num_envs, seed, workers)
        self.num_envs, self._masks = num_envs, masks
        self.action_grid, self.observation_names = self.arrays.action_grid, self.arrays.observation_names
        shape = (config.n_slots, len(self.observation_names))
        self.single_observation_space = spaces.Box(-LIMIT, LIMIT, shape, np.float32)
        self.single_action_space = spaces.MultiDiscrete(np.full(config.n_slots, self.action_grid.n_actions))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Starts every world anew; `seed` fixes all their episodes from here on. `options` are ignored."""
        self.arrays.reset(None if seed is None else check_seed(seed))
        self.arrays.episodes.clear()
        return self.arrays.observation.copy(), self._info()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Answers every window with int (E, K) actions.

        Raises:
            RuntimeError: before reset, or after close.
            ValueError: for a wrong shape, type or number; nothing has happened then.
        """
        arrays = self.arrays
        arrays.step(np.asarray(actions))
        info = self._info()
        over = arrays.terminated[:, 0] | arrays.truncated[:, 0]
        if over.any():
            last = np.zeros(self.num_envs, object)
            for e in np.flatnonzero(over):
                last[e] = arrays.final_observation[e].copy()
            episodes = np.zeros(self.num_envs, object)
            for episode in arrays.episodes:
                episodes[episode["world"]] = episode
            info |= {"final_obs": last, "_final_obs": over}
            info |= {"final_info": {"episode": episodes, "_episode": over}, "_final_info": over}
        arrays.episodes.clear()
        rewards = arrays.reward[:, 0].astype(np.float64)
        ends = arrays.terminated[:, 0].copy(), arrays.truncated[:, 0].copy()
        return arrays.observation.copy(), rewards, *ends, info

    def action_masks(self) -> np.ndarray:
        """int8 (E, K, A), 1 where an action is allowed."""
        arrays = self.arrays
        masks = self.action_grid.mask(arrays.bounds).astype(np.int8)
        masks[~arrays.active] = 0
        masks[~arrays.active, WAIT] = 1
        return masks

    def close_extras(self, **kwargs: Any) -> None:
        """Ends the worlds."""
        self.arrays.close()

    def _info(self) -> dict[str, Any]:
        arrays = self.arrays
        info = {
            "active": arrays.active.copy(),
            "executed": arrays.executed.copy(),
            "elapsed": arrays.elapsed[:, 0].copy(),
            "bounds": arrays.bounds.copy(),
        }
        return info | ({"action_mask": self.action_masks()} if self._masks else {})
