"""Trains BenchMARL's MAPPO or IPPO on mpe2's simple_spread and writes one JSON.

Runs in its own virtual environment (`pip install benchmarl==1.5.2 torch==2.13.0 mpe2==1.1.1`), never in ours:
`compare_mpe.py` starts it and reads the JSON. TorchRL 0.11 looks MPE up inside PettingZoo, which it left, so the task
below hands TorchRL's PettingZooWrapper the mpe2 env itself. Everything else is BenchMARL as shipped, but for one point
in its favour: as shipped, BenchMARL seeds all training environments alike (the same layouts in each of them at the
first episode); here each is seeded on its own.
"""

import itertools
import tempfile
import time
import warnings

import numpy as np
import torch
from benchmarl.algorithms import IppoConfig, MappoConfig
from benchmarl.environments.pettingzoo.common import PettingZooClass
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from mpe2 import simple_spread_v3
from mpe_settings import play
from other_venv import serve
from torchrl.envs.libs.pettingzoo import PettingZooWrapper
from torchrl.envs.utils import ExplorationType, set_exploration_type

warnings.filterwarnings("ignore")


class SpreadTask(PettingZooClass):
    """mpe2's simple_spread with discrete actions; each environment made has a seed of its own."""

    def get_env_fun(self, num_envs, continuous_actions, seed, device):
        """Returns a constructor; every call of it uses the next seed."""
        seeds = itertools.count(1000 * seed)

        def make():
            env = simple_spread_v3.parallel_env(**self.config, continuous_actions=continuous_actions)
            return PettingZooWrapper(
                env=env, return_state=True, categorical_actions=True, device=device, seed=next(seeds)
            )

        return make


class Curve(Callback):
    """Keeps the mean training return of every batch and the CPU seconds up to it."""

    def __init__(self):
        super().__init__()
        self.points = []
        self.start = time.process_time()

    def on_batch_collected(self, batch):
        """Appends (frames, return averaged over episodes and agents, CPU seconds)."""
        done = batch.get(("next", "done")).squeeze(-1)
        returns = batch.get(("next", "agent", "episode_reward"))[done]
        cpu = time.process_time() - self.start
        self.points.append([self.experiment.total_frames, float(returns.mean()), cpu])


@torch.no_grad()
def evaluate(experiment: Experiment, settings: dict, greedy: bool) -> list[float]:
    """Returns the return of each held-out episode, averaged over the agents."""
    td = experiment.test_env.reset()

    def act(rows):
        td.set(("agent", "observation"), torch.as_tensor(rows))
        return experiment.policy(td)[("agent", "action")].reshape(-1).tolist()

    with set_exploration_type(ExplorationType.DETERMINISTIC if greedy else ExplorationType.RANDOM):
        return play(act, settings)


def train(settings):
    """Trains, evaluates on held-out seeds, prints and returns the result.

    Args:
        settings: algo, seed and mpe_settings.SETTINGS.
    """
    torch.set_num_threads(1)

    task = SpreadTask("SIMPLE_SPREAD", {"N": 3, "local_ratio": 0.5, "max_cycles": settings["max_cycles"]})
    algorithm = {"mappo": MappoConfig, "ippo": IppoConfig}[settings["algo"]].get_from_yaml()
    algorithm.clip_epsilon, algorithm.lmbda = settings["clip"], settings["gae_lambda"]
    algorithm.entropy_coef = settings["entropy"]
    model = MlpConfig(num_cells=settings["hidden"], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    config = ExperimentConfig.get_from_yaml()
    config.prefer_continuous_actions = False
    config.gamma, config.lr = settings["gamma"], settings["lr"]
    config.clip_grad_val = settings["max_grad_norm"]
    config.max_n_frames = settings["frames"]
    config.on_policy_n_envs_per_worker = settings["n_worlds"]
    config.on_policy_collected_frames_per_batch = settings["n_worlds"] * settings["n_steps"]
    config.on_policy_n_minibatch_iters = settings["epochs"]
    config.on_policy_minibatch_size = settings["n_worlds"] * settings["n_steps"] // settings["minibatches"]
    config.evaluation, config.render, config.loggers, config.create_json = False, False, [], False
    with tempfile.TemporaryDirectory() as folder:
        config.save_folder = folder
        curve = Curve()
        experiment = Experiment(task, algorithm, model, settings["seed"], config, model, [curve])
        cpu, wall = time.process_time(), time.perf_counter()
        curve.start = cpu
        experiment.run()
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        scores = {"greedy": evaluate(experiment, settings, True), "sampled": evaluate(experiment, settings, False)}
    result = {"library": "benchmarl", "settings": settings, "cpu_seconds": cpu, "wall_seconds": wall}
    result |= {"agent_steps": settings["frames"] * 3, "curve": curve.points, "evaluation": scores}
    print(f"{settings['algo']} seed {settings['seed']}: cpu {cpu:.0f} s, greedy {np.mean(scores['greedy']):.2f}")
    return result


if __name__ == "__main__":
    raise SystemExit(serve(__doc__, train))
