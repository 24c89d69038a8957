"""Which competition agents run on the installed scml, and do they trade?   python experiments/champions.py

Every agent of the leagues of 2024 to 2026 sits in one seat on every level of the same few worlds, among the default
agents of the official generator; agents that quote fractional prices once more with these accepted, as older versions
of negmas did. The table goes to `--out` as CSV: too few worlds to rank anybody, enough to see who plays.
"""

import csv
import math
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import tyro
from about import command_of
from rich.console import Console
from rich.progress import track as progress_of
from rich.table import Table

from scml_marl_env import champions
from scml_marl_env.champions import Champion
from scml_marl_env.config import LEVEL_NAMES as LEVELS
from scml_marl_env.config import TRACKS
from scml_marl_env.tournament.attempts import outcomes
from scml_marl_env.tournament.backends import backend
from scml_marl_env.tournament.competitors import Competitor
from scml_marl_env.tournament.plan import Tournament, jobs
from scml_marl_env.tournament.play import play_one
from scml_marl_env.tournament.record import WorldRecord
from scml_marl_env.tournament.run import record_of
from scml_marl_env.tournament.statistics import level_class

COLUMNS = (
    "track", "year", "name", "place", "fractional_prices", "status",
    *(f"score_{level}" for level in LEVELS), *(f"deals_{level}" for level in LEVELS),
    "exceptions", "decision_ms", "decision_ms_max",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ChampionsConfig:
    """What is played."""

    tracks: tuple[str, ...] = ("std", "oneshot")
    """leagues"""
    worlds: int = 2
    """economies, the same for every agent"""
    days: int = 30
    """of a world"""
    seed: int = 0
    """of the economies"""
    workers: int | None = None
    """worlds at a time, by default one for each core"""
    time_limit: float = 900.0
    """seconds for a world"""
    out: Path = Path(__file__).parent / "results" / "champions.csv"
    """file of the table"""


class Entry:
    """One row: an agent under one rule for prices."""

    def __init__(self, champion: Champion, prices: str, config: ChampionsConfig) -> None:
        self.champion, self.prices = champion, prices
        options = {"days": config.days, "processes": 3 if champion.track == "std" else 2, "factories_per_level": 4}
        self.tournament = Tournament(
            env=f"{champion.track}-2025",
            options=options,
            competitors=(Competitor(name=champion.name, path=champion.path),),
            mode="swap",
            worlds=config.worlds,
            seed=config.seed,
            fractional_prices=prices,
        )
        self.records: list[WorldRecord] = []

    def row(self, missing: str | None) -> dict[str, str]:
        """The cells of `COLUMNS`."""
        about = self.champion
        row = dict.fromkeys(COLUMNS, "") | {
            "track": about.track, "year": str(about.year), "name": about.name, "place": about.place,
            "fractional_prices": self.prices,
        }  # fmt: skip
        errors = [record.error for record in self.records if record.error is not None]
        if missing or errors:
            return row | {"status": missing or f"fails: {errors[0].splitlines()[-1]}"}
        seats = [seat for record in self.records for seat in record.seats]
        for level in LEVELS:
            here = [seat.measures for seat in seats if level == level_class(seat)]
            if here:
                row[f"score_{level}"] = f"{np.mean([each['score'] for each in here]):.3f}"
                row[f"deals_{level}"] = f"{np.mean([each['deals'] for each in here]):.1f}"
        idle = [level for level in LEVELS if row[f"deals_{level}"] == "0.0"]
        times = [seat.measures["decision_ms"] for seat in seats]
        return row | {
            "status": f"runs, no deal: {', '.join(idle)}" if idle else "runs",
            "exceptions": f"{sum(seat.measures['exceptions'] for seat in seats):.0f}",
            "decision_ms": f"{np.nanmean(times):.3f}" if not all(map(math.isnan, times)) else "",
            "decision_ms_max": f"{np.nanmax([seat.measures['decision_ms_max'] for seat in seats]):.1f}",
        }


def main(argv: list[str] | None = None) -> int:
    """Plays every agent, prints and writes the table."""
    config = tyro.cli(ChampionsConfig, args=argv, description=__doc__)
    unknown = sorted(set(config.tracks) - set(TRACKS))
    if unknown or not config.tracks:
        raise SystemExit(f"No track {', '.join(unknown)}; there are {', '.join(TRACKS)}.")
    entries = [
        Entry(champion, prices, config)
        for champion in champions.ALL
        if champion.track in config.tracks
        for prices in (("refuse", "accept") if champion.fractional else ("refuse",))
    ]
    missing = [_missing(entry.champion) for entry in entries]
    calls = [
        (number, job)
        for number, entry in enumerate(entries)
        if missing[number] is None
        for job in jobs(entry.tournament)
    ]
    console = Console()
    call = partial(play_one, [entry.tournament for entry in entries])
    played = outcomes(call, calls, backend("loky", config.workers), config.time_limit)
    for (number, job), result in progress_of(played, "worlds", total=len(calls), console=console):
        entries[number].records.append(record_of(entries[number].tournament, job, result))
    rows = [entry.row(why) for entry, why in zip(entries, missing, strict=True)]
    write(config.out, rows, command_of(__file__, argv))
    table = Table(*COLUMNS[:-3], title="Competition agents on the installed scml")
    for row in rows:
        table.add_row(*(row[column] for column in COLUMNS[:-3]))
    console.print(table)
    console.print(f"{sum(row['status'].startswith('runs') for row in rows)} of {len(rows)} rows run; {config.out}")
    return 0


def write(path: Path, rows: list[dict[str, str]], command: str) -> None:
    """Writes the CSV; its first line says what made it."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("scml", "negmas", "scml-agents"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        file.write(f"# {command} ({versions})\n")
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _missing(champion: Champion) -> str | None:
    try:
        champions.check_installed(champion)
    except ModuleNotFoundError as error:
        return f"needs {', '.join(champion.needs)}" if champion.needs else str(error)
    return None


if __name__ == "__main__":
    raise SystemExit(main())
