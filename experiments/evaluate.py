"""Plays a tournament.   python experiments/evaluate.py --agents runs/mine,prudent,penguin --env std-2025 --worlds 20

`--agents` lists competitors, separated by commas: names (of the built-in agents and of the competition agents of 2024
to 2026), import paths "package.module:Class", folders of runs or checkpoints; "label=..." names one, and "+covered"
puts one behind the external shield. All of them play the same worlds of the official generator with the same seeds: in
its 2 to 4 places for competitors, through which they rotate (`--mode free`), or in one fixed seat on every level, in
turn (`--mode swap`, the sharper comparison). Every world plays in a process of its own: one that hangs, dies or raises
is reported, and the others go on.

The folder `--out` receives tournament.json, worlds.jsonl (a line for each world as it ends; the same command goes on
after an interruption), report.json, worlds.csv, table.md, report.png and report.html.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from about import about
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from scml_marl_env.config import read_options
from scml_marl_env.registry import config_of
from scml_marl_env.tournament.backends import backend
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.plan import Tournament
from scml_marl_env.tournament.record import WorldRecord
from scml_marl_env.tournament.report import print_table, write_report
from scml_marl_env.tournament.run import run
from scml_marl_env.tournament.statistics import summarise


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Who plays what, where."""

    agents: str
    """competitors, separated by commas"""
    env: str
    """id of an environment; its worlds are played"""
    env_options: tuple[str, ...] = ()
    """key=value fields of its config, such as inventory=conserving or days=50; values are read as JSON if they are"""
    mode: Literal["free", "swap"] = "free"
    """rotation through the official places, or one fixed seat on every level for every competitor in turn"""
    worlds: int = 10
    """economies; each is played once for every competitor"""
    seed: int = 0
    """of the tournament"""
    baseline: str | None = None
    """competitor with which the others are compared, by default the first"""
    fractional_prices: Literal["refuse", "accept"] = "refuse"
    """what becomes of offers at fractional prices: refused as by negmas 0.16, or accepted as before it"""
    backend: Literal["serial", "loky", "ray"] = "loky"
    """where the worlds are played: in turn, in worker processes of this machine, or on a Ray cluster"""
    workers: int | None = None
    """worlds at a time, by default one for each core"""
    address: str | None = None
    """of a running Ray cluster; by default Ray starts one on this machine"""
    time_limit: float = 1800.0
    """seconds for a world, after which it is stopped and reported"""
    retry_failed: bool = False
    """play the worlds again that failed before"""
    league: bool = False
    """hand the agents to SCML's own anac2024_std or anac2024_oneshot instead; `worlds` are its configurations"""
    out: Path = Path("runs/tournament")
    """folder of the results"""


def main(argv: list[str] | None = None) -> int:
    """Plays, prints the table, writes the report; returns 1 if a world failed."""
    config = tyro.cli(EvaluateConfig, args=argv, description=__doc__)
    console = Console() if sys.stdout.isatty() else Console(width=140)
    try:
        tournament = make(config)
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None
    names = [each.name for each in tournament.competitors]
    if config.baseline is not None and config.baseline not in names:
        raise SystemExit(f"The baseline {config.baseline!r} does not play; the competitors are {', '.join(names)}.")
    if config.league:
        from scml_marl_env.tournament.league import play_league, print_league

        try:
            print_league(play_league(tournament, config.out, config.workers), console)
        except (ValueError, ModuleNotFoundError) as error:
            raise SystemExit(str(error)) from None
        return 0
    try:
        where = backend(config.backend, config.workers, config.address)
        records = play(tournament, config, where, console)
    except (ValueError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from None
    summary = summarise(records, config.baseline or names[0], config.seed, names)
    print_table(summary, console)
    head = {
        "tournament": tournament.to_json(),
        "fractional_prices": tournament.fractional_prices,
    }
    write_report(config.out, records, summary, head | about(__file__, argv))
    console.print(f"Report: {config.out}")
    failed = [record for record in records if record.error is not None]
    for record in failed:
        console.print(f"World {record.key} failed: {str(record.error).splitlines()[-1]}", style="red", markup=False)
    return 1 if failed else 0


def make(config: EvaluateConfig) -> Tournament:
    """The tournament of the flags."""
    options = read_options(config.env_options)
    track = config_of(config.env, **options).track
    return Tournament(
        env=config.env,
        options=options,
        competitors=competitors(config.agents.split(","), track),
        mode=config.mode,
        worlds=config.worlds,
        seed=config.seed,
        fractional_prices=config.fractional_prices,
    )


def play(tournament: Tournament, config: EvaluateConfig, where: Any, console: Console) -> list[WorldRecord]:
    """Plays with a progress bar."""
    columns = (
        TextColumn("worlds"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as progress:
        total = config.worlds * len(tournament.competitors)
        task = progress.add_task("worlds", total=total, failed=0)
        n_failed = 0

        def on_world(record: WorldRecord) -> None:
            nonlocal n_failed
            n_failed += record.error is not None
            progress.update(task, advance=1, failed=n_failed)

        return run(tournament, config.out, where, config.time_limit, config.retry_failed, on_world)


if __name__ == "__main__":
    raise SystemExit(main())
