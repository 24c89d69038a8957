"""Datasets that are made up: shapes and legality as in play, numbers drawn at random."""

import numpy as np

from scml_marl_env.actions import BEST_PRICE, CAN_ACCEPT, CAN_END, LAST_LEAD, N_PRICES, PRICE_SIGN, QUANTITY
from scml_marl_env.data.dataset import DatasetWriter
from scml_marl_env.data.rollouts import raw_of
from scml_marl_env.layout import Layout


def made_steps(config, rng, n_steps=30):
    """An episode as `DatasetWriter.episode` takes it, with legal actions."""
    layout = Layout(config)
    grid, k = layout.grid, config.n_slots
    answers = rng.integers(1, k + 1, n_steps)
    n = int(answers.sum())
    bounds = np.zeros((n, grid.n_bounds), np.int32)
    bounds[:, CAN_END] = 1
    bounds[:, CAN_ACCEPT] = rng.random(n) < 0.5
    bounds[:, N_PRICES] = rng.integers(1, grid.n_price_levels + 1, n)
    bounds[:, PRICE_SIGN] = rng.choice([-1, 1], n)
    bounds[:, BEST_PRICE] = np.where(bounds[:, PRICE_SIGN] > 0, 10, 40)
    bounds[:, LAST_LEAD] = rng.integers(0, grid.n_leads, n)
    bounds[:, QUANTITY : grid.budget_column] = rng.integers(0, 12, (n, grid.n_leads))
    bounds[:, grid.budget_column : grid.today_column] = rng.integers(0, 500, (n, grid.n_leads))
    bounds[:, grid.today_column :] = rng.integers(0, 12, (n, grid.n_price_levels))
    masks = grid.mask(bounds)
    action = np.where(masks, rng.random(masks.shape), -1.0).argmax(1).astype(np.int32)
    last = np.arange(n_steps) == n_steps - 1
    return {
        "observation": rng.random((n, len(layout.observation_names)), np.float32),
        "bounds": bounds,
        "action": action,
        "raw": raw_of(grid, bounds, action),
        "slot": np.concatenate([np.sort(rng.permutation(k)[:count]) for count in answers]).astype(np.int16),
        "state": rng.random((n_steps, len(layout.state_names)), np.float32),
        "day": np.arange(n_steps) // 5,
        "round": np.arange(n_steps) % 5,
        "reward": rng.normal(size=n_steps).astype(np.float32),
        "elapsed": (np.arange(n_steps) % 5 == 4).astype(np.float32),
        "terminated": last,
        "truncated": np.zeros(n_steps, bool),
        "answers": answers,
    }


def made_dataset(folder, config, seeds=range(10), experts=("penguin", "prudent"), n_steps=30):
    """Writes one episode for each seed and expert into a folder; returns what was written, in order."""
    episodes = []
    with DatasetWriter(folder, config, experts) as writer:
        for seed in seeds:
            for i, name in enumerate(experts):
                rng = np.random.default_rng([seed, i])
                steps = made_steps(config, rng, n_steps)
                about = {"world_seed": seed, "factory": 2 * i, "level": i, "expert": name, "n_days": 6}
                about["score"] = 1.0 + float(steps["reward"].sum(dtype=np.float64))
                writer.episode(steps, **about)
                episodes.append((steps, about))
    return episodes
