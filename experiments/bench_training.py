"""Times whole iterations of MAPPO: collecting and learning.   python experiments/bench_training.py --env synthetic

An iteration collects `--n-steps` steps of `--n-worlds` worlds and learns from them; the first ones, in which code is
compiled and memory touched for the first time, do not count. A decision is one answer of one agent: what the network
was asked for and learns from. CPU seconds are those of the process with all its threads; shares and GFLOP/s refer to
them, so that other processes on the machine disturb little.

The update's arithmetic is counted from the shapes of the layers: 2 * inputs * outputs a row forwards and twice that
backwards, but for the first layer, whose inputs need no gradient; lead, price and quantity count for offers only. Its
rate is that over the seconds of `gradients`, in which rows are gathered, softmaxes and losses computed too. The peaks
are measured after each repeat: exactly these products, with as many rows as a minibatch has, by torch.mm (which on
processors that are not Intel's is MKL without AVX-512) and by oneDNN (see algorithms.dense).

`--env synthetic` has the shapes of std-2025 and no simulator. Collecting and learning take turns, each in large
batches. `--threads 2` lets torch, but not the compiled loops between its products, use two threads.
`--benchmarl-python` adds BenchMARL's MAPPO on VMAS' simple_spread, `--jaxmarl-python` IPPO in JAX on JaxMARL's (3
agents, 100 steps, as many worlds as give as many decisions an iteration as ours; same hidden layers, epochs and
minibatches; one thread), each run by an interpreter that has it, in turn with ours where `--rounds` is more than 1:

    python -m venv VENV && VENV/bin/pip install benchmarl==1.5.2 torch==2.13.0 vmas==1.5.2
    python -m venv VENV && VENV/bin/pip install jaxmarl==0.2.0 jax==0.10.2 optax

The folder `--out` receives bench_training.json (everything) and bench_training.csv (a line for each repeat).
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from about import about
from bench import write_rows
from bench_training_worlds import SyntheticEnv
from rich.console import Console
from rich.table import Table
from settings import EnvConfig, make_env
from torch import nn

from algorithms.buffer import RolloutBuffer
from algorithms.dense import onednn, product
from algorithms.heads import FIRST_OFFER, FactoredHead
from algorithms.interface import VectorEnv
from algorithms.log import LEARN_PHASES, Clock
from algorithms.mappo import MAPPO
from algorithms.ppo import PPOConfig, Shapes
from algorithms.train import collect

HERE = Path(__file__).parent
OURS = ("env", "act", "store", "learn")


@dataclass(frozen=True, kw_only=True)
class TrainingBenchConfig:
    """What is measured, and how often."""

    env: str = "std-2025"
    """id of scml_marl_env, or "synthetic" """
    env_options: tuple[str, ...] = ()
    """key=value arguments of the environment, such as its engine"""
    n_worlds: int = 256
    """worlds that are stepped together"""
    n_steps: int = 128
    """steps of a rollout"""
    hidden: tuple[str, ...] = ("64,64", "default", "256,256")
    """hidden layers of actor and critic; "default" is that of PPOConfig, measured once if it is another one too"""
    epochs: int = PPOConfig.epochs
    """passes over a rollout"""
    minibatches: int = PPOConfig.minibatches
    """gradient steps of a pass"""
    repeats: int = 5
    """iterations that are measured"""
    warm_up: int = 2
    """iterations before them"""
    rounds: int = 1
    """times that ours and theirs are measured in turn, for machines whose speed wanders"""
    threads: int = 1
    """threads of torch"""
    seed: int = 0
    """of worlds and weights"""
    benchmarl_python: Path | None = None
    """python of a virtual environment that holds BenchMARL and VMAS"""
    jaxmarl_python: Path | None = None
    """python of a virtual environment that holds JaxMARL"""
    out: Path = Path("runs/bench_training")
    """folder for bench_training.json and bench_training.csv"""


@dataclass(frozen=True)
class Layer:
    """One matrix of weights and the rows that pass through it in one epoch."""

    inputs: int
    outputs: int
    rows: int
    first: bool

    @property
    def flops(self) -> int:
        """Forwards, gradient by the weights, and gradient by the inputs unless nothing is before them."""
        return 2 * self.inputs * self.outputs * self.rows * (2 if self.first else 3)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, writes, and returns 0."""
    config = tyro.cli(TrainingBenchConfig, args=argv, description=__doc__)
    torch.set_num_threads(config.threads)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    machine = about(__file__, argv) | {"torch": torch.__version__}
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    env = make_worlds(config)
    rows: list[dict[str, Any]] = []
    for hidden in dict.fromkeys(sizes(text) for text in config.hidden):
        found: list[dict[str, Any]] = []
        for number in range(config.rounds):
            with console.status(f"{config.env}, {hidden}, round {number + 1} of {config.rounds}"):
                new = measure(config, env, hidden)
                decisions = int(median(row["decisions"] for row in new))
                for other in others(config):
                    new += run_other(config, other, hidden, decisions)
            found += [row | {"round": number} for row in new]
        rows += found
        console.print(table(config, [row for row in found if row["case"] == "ours"]))
        for other in others(config):
            rates = sorted(row["decisions_per_cpu_second"] for row in found if row["case"] == other.case)
            spread = f"{median(rates):,.0f} ({rates[0]:,.0f} .. {rates[-1]:,.0f})"
            console.print(f"{other.title}, {name_of(hidden)}: {spread} decisions / CPU s", highlight=False)
    env.close()
    write(config, machine, rows)
    console.print(f"written to {config.out / 'bench_training.json'} and bench_training.csv")
    return 0


def make_worlds(config: TrainingBenchConfig) -> VectorEnv:
    """Returns the worlds, reset."""
    env: Any
    if config.env == "synthetic":
        env = SyntheticEnv(config.n_worlds, config.seed)
    else:
        worlds = EnvConfig(env=config.env, env_options=config.env_options, workers=config.threads)
        env = make_env(worlds, config.seed, config.n_worlds)
    env.reset(config.seed)
    return env


def sizes(text: str) -> tuple[int, ...]:
    """Returns the hidden layers of "64,64" or "default"."""
    return PPOConfig().actor_hidden if text == "default" else tuple(int(part) for part in text.split(","))


def name_of(hidden: tuple[int, ...]) -> str:
    """Returns "64x64", and says so if it is the default."""
    return "x".join(map(str, hidden)) + (" (default)" if hidden == PPOConfig().actor_hidden else "")


def measure(config: TrainingBenchConfig, env: VectorEnv, hidden: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row for each measured iteration."""
    ppo = PPOConfig(actor_hidden=hidden, critic_hidden=hidden, epochs=config.epochs, minibatches=config.minibatches)
    learner = MAPPO(Shapes.of(env), ppo, config.seed)
    buffer, clock, rows = RolloutBuffer(config.n_steps, env), Clock(now=time.process_time), []
    learner.clock = Clock(LEARN_PHASES, time.process_time)
    for repeat in range(-config.warm_up, config.repeats):
        clock.start()
        cpu, wall = time.process_time(), time.perf_counter()
        collect(env, learner, buffer, clock)
        learner.update(buffer, progress=0.0)
        clock.lap("learn")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        env.episodes.clear()
        seconds, inside = clock.take(), learner.clock.take()
        if repeat < 0:
            continue
        layers, decisions = layers_of(learner, buffer), int(buffer.active.sum())
        flops = sum(layer.flops for layer in layers)
        achieved = config.epochs * flops / inside["gradients"] / 1e9
        row: dict[str, Any] = {"case": "ours", "env": config.env, "hidden": name_of(hidden), "repeat": repeat}
        row |= {"decisions": decisions, "cpu_seconds": cpu, "wall_seconds": wall}
        row |= {"decisions_per_cpu_second": decisions / cpu, "decisions_per_wall_second": decisions / wall}
        row |= {f"share_{phase}": seconds[phase] / cpu for phase in OURS}
        row |= {f"share_learn_{phase}": value / cpu for phase, value in inside.items()}
        row |= {"share_env_and_store": (seconds["env"] + seconds["store"]) / cpu}
        row |= {"update_gflop": config.epochs * flops / 1e9, "gflops": achieved}
        for name, multiply in (("mm", torch.mm), ("onednn", product)):
            if name == "mm" or onednn() is not None:
                peak = peak_of(layers, config.minibatches, multiply)
                row |= {f"peak_gflops_{name}": peak, f"ratio_to_{name}": achieved / peak}
        rows.append(row)
    return rows


def layers_of(learner: MAPPO, buffer: RolloutBuffer) -> list[Layer]:
    """The matrices that the update multiplies with, and their rows in one epoch."""
    decisions = int(buffer.active.sum())
    offers = int((buffer.action[buffer.active] >= FIRST_OFFER).sum())
    teams = int(buffer.active.reshape(*buffer.active.shape[:2], learner.shapes.n_teams, -1).any(-1).sum())
    layers = []
    for torso, rows in ((learner.actor.torso, decisions), (learner.critic.torso, teams)):
        linears = [layer for layer in torso if isinstance(layer, nn.Linear)]
        layers += [Layer(layer.in_features, layer.out_features, rows, i == 0) for i, layer in enumerate(linears)]
    layers.append(Layer(layers[-1].outputs, 1, teams, False))
    head = learner.actor.head
    if isinstance(head, FactoredHead):
        factors = [(head.operation, decisions)] + [(layer, offers) for layer in (head.lead, head.price, head.quantity)]
    else:
        factors = [(head.logits, decisions)]
    return layers + [Layer(layer.in_features, layer.out_features, rows, False) for layer, rows in factors]


@torch.no_grad()
def peak_of(layers: list[Layer], minibatches: int, multiply: Any) -> float:
    """GFLOP/s of the products of one minibatch and nothing else: the best of seven runs of each."""
    flops, seconds = 0.0, 0.0
    for layer in layers:
        rows = layer.rows // minibatches
        x, weight = torch.randn(rows, layer.inputs), torch.randn(layer.outputs, layer.inputs)
        slope = torch.randn(rows, layer.outputs)
        pairs = [(x, weight.t()), (slope.t(), x)] + ([] if layer.first else [(slope, weight)])
        for a, b in pairs:
            multiply(a, b)
            times = []
            for _ in range(7):
                began = time.process_time()
                multiply(a, b)
                times.append(time.process_time() - began)
            seconds += min(times)
            flops += 2 * rows * layer.inputs * layer.outputs
    return flops / seconds / 1e9


@dataclass(frozen=True)
class Other:
    """A library that is measured beside ours, in an environment of its own."""

    case: str
    title: str
    env: str
    python: Path


def others(config: TrainingBenchConfig) -> list[Other]:
    """Those whose interpreters are given."""
    found = []
    if config.benchmarl_python is not None:
        title = "BenchMARL's MAPPO on VMAS' simple_spread"
        found.append(Other("benchmarl", title, "vmas simple_spread", config.benchmarl_python))
    if config.jaxmarl_python is not None:
        title = "IPPO in JAX on JaxMARL's simple_spread"
        found.append(Other("jaxmarl", title, "jaxmarl simple_spread", config.jaxmarl_python))
    return found


def run_other(
    config: TrainingBenchConfig, other: Other, hidden: tuple[int, ...], decisions: int
) -> list[dict[str, Any]]:
    """One row for each iteration of `decisions` decisions, or a few less."""
    settings = {"hidden": hidden, "decisions": decisions, "epochs": config.epochs, "minibatches": config.minibatches}
    settings |= {"repeats": config.repeats, "warm_up": config.warm_up, "seed": config.seed}
    with TemporaryDirectory() as folder:
        path = Path(folder, "rows.json")
        command = [other.python, HERE / f"bench_training_{other.case}.py", "--out", path]
        subprocess.run([*command, "--settings", json.dumps(settings)], check=True, stdout=sys.stderr)
        rows = json.loads(path.read_text())
    names = {"case": other.case, "env": other.env, "hidden": name_of(hidden)}
    return [
        names
        | row
        | {f"decisions_per_{kind}_second": row["decisions"] / row[f"{kind}_seconds"] for kind in ("cpu", "wall")}
        for row in rows
    ]


def table(config: TrainingBenchConfig, rows: list[dict[str, Any]]) -> Table:
    """Medians of all repeats of one network, with their lowest and highest."""
    first = rows[0]
    title = f"MAPPO on {config.env}, {first['hidden']}: {config.n_worlds} worlds, {config.n_steps} steps, "
    title += (
        f"{config.epochs} epochs of {config.minibatches} minibatches, {config.threads} thread(s), {len(rows)} repeats"
    )
    shown = Table(title=title, title_justify="left", title_style="bold")
    shown.add_column("")
    for column in ("median", "lowest", "highest"):
        shown.add_column(column, justify="right", style="bold" if column == "median" else "")
    for key in first:
        if isinstance(first[key], str) or key in ("repeat", "round"):
            continue
        values = [row[key] for row in rows]
        style = ".1%" if key.startswith(("share", "ratio")) else ",.0f" if max(values) >= 1000 else ".4g"
        shown.add_row(key.replace("_", " "), *(format(f(values), style) for f in (median, min, max)))
    return shown


def write(config: TrainingBenchConfig, machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """bench_training.json with everything, bench_training.csv with a line for each repeat."""
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}
    write_rows(config.out / "bench_training", rows, machine, settings)


if __name__ == "__main__":
    raise SystemExit(main())
