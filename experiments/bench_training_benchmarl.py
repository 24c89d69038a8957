"""Times iterations of BenchMARL's MAPPO on VMAS' simple_spread and writes one JSON.

Runs in its own virtual environment, never in ours: `bench_training.py` starts it and reads the JSON.
"""

import tempfile
import time
import warnings

import torch
from benchmarl.algorithms import MappoConfig
from benchmarl.environments import VmasTask
from benchmarl.experiment import Callback, Experiment, ExperimentConfig
from benchmarl.models.mlp import MlpConfig
from other_venv import serve

warnings.filterwarnings("ignore")
N_AGENTS, N_STEPS = 3, 100


class Marks(Callback):
    """CPU and wall seconds at the moments when a batch is complete: an iteration lies between two of them."""

    def __init__(self):
        super().__init__()
        self.marks = []

    def on_batch_collected(self, batch):
        """Appends (CPU seconds, wall seconds)."""
        self.marks.append((time.process_time(), time.perf_counter()))


def train(settings):
    """Trains for a few iterations; one row with the times of each.

    Args:
        settings: hidden, decisions, epochs, minibatches, repeats, warm_up, seed.
    """
    torch.set_num_threads(1)
    n_worlds = max(1, settings["decisions"] // (N_STEPS * N_AGENTS))
    n_frames = n_worlds * N_STEPS

    task = VmasTask.SIMPLE_SPREAD.get_from_yaml()
    task.config["max_steps"] = N_STEPS
    model = MlpConfig(num_cells=settings["hidden"], layer_class=torch.nn.Linear, activation_class=torch.nn.Tanh)
    config = ExperimentConfig.get_from_yaml()
    config.sampling_device = config.train_device = "cpu"
    config.max_n_frames = n_frames * (settings["warm_up"] + settings["repeats"] + 1)
    config.on_policy_n_envs_per_worker = n_worlds
    config.on_policy_collected_frames_per_batch = n_frames
    config.on_policy_n_minibatch_iters = settings["epochs"]
    config.on_policy_minibatch_size = n_frames // settings["minibatches"]
    config.evaluation, config.render, config.loggers, config.create_json = False, False, [], False
    with tempfile.TemporaryDirectory() as folder:
        config.save_folder = folder
        marks = Marks()
        Experiment(task, MappoConfig.get_from_yaml(), model, settings["seed"], config, model, [marks]).run()
    rows = []
    for repeat, (before, after) in enumerate(zip(marks.marks[:-1], marks.marks[1:], strict=True)):
        if repeat >= settings["warm_up"]:
            seconds = {"cpu_seconds": after[0] - before[0], "wall_seconds": after[1] - before[1]}
            rows.append({"repeat": repeat - settings["warm_up"], "decisions": N_AGENTS * n_frames} | seconds)
    return rows


if __name__ == "__main__":
    raise SystemExit(serve(__doc__, train))
