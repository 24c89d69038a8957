"""The scoreboard of the README.   python experiments/scoreboard.py --minutes 120

Trained policies, our heuristic, the agents that come with SCML and winners and finalists of its leagues, on official
settings: `std` and `std-fractional` (offers at fractional prices refused as by negmas 0.16, and accepted as before it),
`std-free` (the official places instead of one fixed seat on every level), `std-conserving` (stock that production uses
up is gone, unlike in the official simulator), and `oneshot`. The boards grow in turn, two economies at a time, as long
as there is time; the same command goes on with what is there. Each board is a folder of experiments/evaluate.py.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from about import about
from rich.console import Console

from scml_marl_env.tournament.backends import backend
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.plan import Tournament
from scml_marl_env.tournament.report import print_table, write_report
from scml_marl_env.tournament.run import read, run
from scml_marl_env.tournament.statistics import summarise

RESULTS = Path(__file__).parent / "results" / "scoreboard"
STD = (
    "prudent", "greedy", "sync-random", "random", "nothing", "penguin", "cautious-std", "ax", "quick-decision", "as0",
    "ultra-super", "price-trend", "heystd", "horizon-aware", "sbd", "taka-link", "cow", "rohn",
)  # fmt: skip
ONESHOT = (
    "prudent", "greedy", "sync-random", "equal-dist", "random", "nothing", "cautious-oneshot", "matching-pennies",
    "dist-redist", "cost-averse", "rchan", "almost-equal", "lattice", "bayesian", "sbd-oneshot", "time-weighted",
)  # fmt: skip
FEWER = (
    "prudent", "greedy", "sync-random", "nothing", "penguin", "as0", "heystd", "horizon-aware", "sbd", "quick-decision",
)  # fmt: skip
BOARDS: dict[str, dict[str, Any]] = {
    "std": {"env": "std-2025", "agents": STD},
    "oneshot": {"env": "oneshot-2025", "agents": ONESHOT},
    "std-fractional": {"env": "std-2025", "agents": STD, "fractional_prices": "accept"},
    "std-conserving": {"env": "std-2025", "agents": FEWER, "options": {"inventory": "conserving"}},
    "std-free": {"env": "std-2025", "agents": FEWER, "mode": "free"},
}


@dataclass(frozen=True, kw_only=True)
class ScoreboardConfig:
    """How much is played."""

    minutes: float = 120.0
    """of wall-clock time; the worlds that are being played then are finished"""
    boards: tuple[str, ...] = tuple(BOARDS)
    """which of them"""
    step: int = 2
    """economies that a board grows by at a time"""
    workers: int | None = None
    """worlds at a time, by default one for each core"""
    policies: Path = RESULTS / "policies"
    """folder of the checkpoints mappo-std, ippo-std, mappo-oneshot, ippo-oneshot"""
    out: Path = Path("runs/scoreboard")
    """folder of the boards"""


def main(argv: list[str] | None = None) -> int:
    """Plays, prints every table, writes every report; returns 1 if a world failed."""
    config = tyro.cli(ScoreboardConfig, args=argv, description=__doc__)
    unknown = sorted(set(config.boards) - set(BOARDS))
    if unknown:
        raise SystemExit(f"No board {', '.join(unknown)}; there are {', '.join(BOARDS)}.")
    console = Console() if sys.stdout.isatty() else Console(width=140)
    where, end = backend("loky", config.workers), time.monotonic() + 60 * config.minutes
    worlds = {name: _there(config.out / name) for name in config.boards}
    try:
        for name in config.boards:
            tournament(name, 1, config.policies)
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None
    while time.monotonic() < end:
        name = min(worlds, key=lambda board: worlds[board])
        worlds[name] += config.step
        run(tournament(name, worlds[name], config.policies), config.out / name, where, time_limit=1800)
        console.print(f"{time.strftime('%H:%M:%S')} {name}: {worlds[name]} economies")
    head = about(__file__, argv)
    return max(report(name, worlds[name], config, head, console) for name in config.boards if worlds[name])


def tournament(board: str, worlds: int, policies: Path) -> Tournament:
    """A board with so many economies."""
    chosen = BOARDS[board]
    track = chosen["env"].partition("-")[0]
    trained = [f"{algorithm}={policies / f'{algorithm}-{track}'}" for algorithm in ("mappo", "ippo")]
    return Tournament(
        env=chosen["env"],
        options=chosen.get("options", {}),
        competitors=competitors([*trained, *chosen["agents"]], track),
        mode=chosen.get("mode", "swap"),
        worlds=worlds,
        fractional_prices=chosen.get("fractional_prices", "refuse"),
    )


def report(board: str, worlds: int, config: ScoreboardConfig, about: dict[str, Any], console: Console) -> int:
    """Prints and writes what a board holds; 1 if a world failed."""
    played = tournament(board, worlds, config.policies)
    names = [each.name for each in played.competitors]
    records = read(config.out / board)
    summary = summarise(records, "prudent", 0, names)
    console.rule(board)
    print_table(summary, console)
    head = {"tournament": played.to_json(), "fractional_prices": played.fractional_prices}
    write_report(config.out / board, records, summary, head | about)
    return int(any(record.error is not None for record in records))


def _there(folder: Path) -> int:
    """Economies of a board that are already played, or begun."""
    return len({record.world_seed for record in read(folder)})


if __name__ == "__main__":
    raise SystemExit(main())
