"""Compares the fast engine of several checkouts of this project on one noisy machine: bursts in turn, ratios in pairs.

    git worktree add ../before 6c22402
    python experiments/bench_versions.py --trees ../before . --controlled 1

Every tree plays random allowed actions in a process of its own; the processes take turns with short bursts, in an order
that is turned round each time, so that a slow second of the machine hits all of them. A ratio is that of a tree's burst
to the first tree's burst of the same round. `--cold` adds what each tree compiles without a cache, once, one after the
other: `make`, reset and a step, and the same of a vector environment.

The file `--out` receives everything.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Literal

import tyro
from about import about, commit_of
from bench_fast import environment_of, make_bank, start_up
from rich.console import Console
from rich.table import Table

_PLAY = """
import json, sys, time
import numpy as np
import scml_marl_env
from bench_fast import draw_actions, make_bank
env_id, n_worlds, n_bank, options = json.loads(sys.argv[1])
env = scml_marl_env.make_vector(env_id, n_worlds, 0, 1, engine="fast", bank=make_bank(env_id, n_bank), **options)
actions, stream = np.zeros((env.n_worlds, env.n_agents), np.int64), np.array([1], np.uint64)
env.reset(0)

def burst(seconds):
    n, cpu, end = 0, time.process_time(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        for _ in range(8):
            grid = env.action_grid
            n += draw_actions(env.bounds, env.active, grid.quantity_array, grid.n_leads, stream, actions)
            env.step(actions)
            env.episodes.clear()
    return n / (time.process_time() - cpu)

burst(2.0)  # compiles, and spreads the worlds over their episodes
print(scml_marl_env.__file__, flush=True)
for line in sys.stdin:
    print(burst(float(line)), flush=True)
"""
_BANK_WORLDS = 256


@dataclass(frozen=True, kw_only=True)
class VersionsConfig:
    """What is compared."""

    trees: tuple[Path, ...]
    """checkouts of this project, with the file bench_fast.py in their experiments/"""
    env: str = "std-2025"
    """id of scml_marl_env"""
    controlled: int | Literal["all"] = "all"
    """factories that learn"""
    rows: Literal["all", "window"] = "all"
    """of `make_vector`"""
    n_worlds: int = 256
    """worlds that are played at once"""
    rounds: int = 40
    """bursts of each tree"""
    seconds: float = 0.3
    """length of a burst"""
    cold: bool = False
    """also time the first compilation, in CPU seconds"""
    out: Path = Path("runs/bench_versions/bench_versions.json")
    """JSON file"""

    def __post_init__(self) -> None:
        for tree in self.trees:
            if not (tree / "scml_marl_env").is_dir() or not (tree / "experiments" / "bench_fast.py").is_file():
                raise ValueError(f"{tree} is no checkout of this project: it needs scml_marl_env/ and bench_fast.py.")
        if self.rounds < 2:
            raise ValueError(f"rounds must be at least 2, for quartiles, got {self.rounds}.")


class _Player:
    """The process of a tree."""

    def __init__(self, tree: Path, config: VersionsConfig) -> None:
        options = {"controlled": config.controlled, "rows": config.rows}
        asked = json.dumps([config.env, config.n_worlds, _BANK_WORLDS, options])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PLAY, asked],
            cwd=tree,
            env=environment_of(tree),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        played = self._answer()
        if not Path(played).is_relative_to(tree.resolve()):
            raise RuntimeError(f"{tree} would play {played}: name folders that hold the package scml_marl_env.")

    def burst(self, seconds: float) -> float:
        """Decisions per CPU second."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        return float(self._answer())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"A process ended with status {self._process.wait()}; what it said stands above.")
        return line


def main(argv: list[str] | None = None) -> int:
    """Measures, prints, writes, and returns 0."""
    config = tyro.cli(VersionsConfig, args=argv, description=__doc__)
    console, machine = Console(), about(__file__, argv)
    players = []
    for tree in config.trees:
        with console.status(f"{tree} compiles"):
            players.append(_Player(tree, config))
    bursts: list[list[float]] = [[] for _ in players]
    for n in range(config.rounds):
        with console.status(f"round {n + 1} of {config.rounds}"):
            for i in sorted(range(len(players)), reverse=n % 2 == 1):
                bursts[i].append(players[i].burst(config.seconds))
    rows: list[dict[str, Any]] = []
    for tree, player, rates in zip(config.trees, players, bursts, strict=True):
        player.close()
        ratios = [one / first for one, first in zip(rates, bursts[0], strict=True)]
        low, middle, high = quantiles(ratios, n=4)
        row = {"tree": str(tree), "commit": commit_of(tree), "decisions_per_cpu_second": median(rates)}
        rows.append(row | {"ratio": middle, "ratio_low": low, "ratio_high": high, "bursts": rates})
    if config.cold:
        bank = make_bank(config.env, _BANK_WORLDS)
        for row, tree in zip(rows, config.trees, strict=True):
            with console.status(f"{tree} compiles without a cache"):
                row |= start_up(config.env, bank, tree, "process_time", only_cold=True)
    console.print(table(config, rows))
    settings = {"env": config.env, "controlled": config.controlled, "rows": config.rows, "n_worlds": config.n_worlds}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps({"about": machine, "settings": settings, "rows": rows}, indent=1) + "\n")
    console.print(f"written to {config.out}")
    return 0


def table(config: VersionsConfig, rows: list[dict[str, Any]]) -> Table:
    """A column for each tree."""
    title = f"{config.env}, {config.n_worlds} worlds, {config.controlled} learning, rows={config.rows}"
    shown = Table("", *(f"{row['tree']} ({row['commit']})" for row in rows), title=title)
    shown.add_row("decisions / CPU s", *(f"{row['decisions_per_cpu_second']:,.0f}" for row in rows))
    ratios = (f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]" for row in rows)
    shown.add_row("ratio, median and quartiles", *ratios)
    for name in (name for name in rows[0] if name.startswith("cold")):
        shown.add_row(f"{name}, CPU s", *(f"{row[name]:.1f}" for row in rows))
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
