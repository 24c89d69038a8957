"""Audits SCML agents: what they do that is not safe.   python experiments/audit.py penguin greedy --worlds 20

An AGENT is a name (a built-in or competition agent), the import path of an agent class, or the folder of a checkpoint;
"penguin+covered" is one behind the external shield. All play the same worlds in the same seats, one after the other,
watched by scml_marl_env/audit/watch.py, which changes nothing of what they do. SAFETY.md, 3, in short, each in percent:

    U1          acceptances and offers that, alone, make a shortfall certain, or today's payments unaffordable
    U2          decisions of which some part, with the offers still pending, does so
    uncovered   the same of the stricter grade: what is not covered by goods and money that are there

and U3, the items a day that were sold and not delivered: of negotiated and of exogenous sales. Intervals are 95 %, by
the bootstrap over whole worlds. `--out NAME.json` receives the rates, every seat's counts, and how they came about;
NAME_examples.json the examples.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from about import about
from rich.console import Console
from rich.progress import track
from rich.table import Table

from scml_marl_env.audit.play import SeatAudit, play_job
from scml_marl_env.audit.rates import LEVELS, Rate, gains, rates
from scml_marl_env.config import EnvConfig, read_options
from scml_marl_env.registry import config_of
from scml_marl_env.tournament.attempts import outcomes
from scml_marl_env.tournament.backends import backend
from scml_marl_env.tournament.competitors import competitors
from scml_marl_env.tournament.isolate import Lost


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Who is audited, and where."""

    agents: tyro.conf.Positional[tuple[str, ...]]
    """names, import paths or folders, each with "+feasible" or "+covered" for the external shield; scores are compared
    with the first one's"""
    env: str = "std-2025"
    """id of scml_marl_env: track, size of the worlds, opponents"""
    env_options: tuple[str, ...] = ()
    """key=value options of the environment, such as days=50; values are read as JSON where they are JSON"""
    seats: Literal["levels", "official"] = "levels"
    """the first factory of every level, or those where the official generator placed competitors"""
    worlds: int = 10
    """worlds for each agent"""
    seed: int = 5_000_011
    """world seed of the first world; the others follow"""
    workers: int = 2
    """processes"""
    out: Path | None = None
    """JSON file for the results; the examples go beside it"""


def main(argv: list[str] | None = None) -> int:
    """Plays, prints the table; returns 1 if a world failed."""
    config = tyro.cli(AuditConfig, args=argv, description=__doc__)
    if not config.agents or config.worlds < 1 or config.workers < 1:
        raise SystemExit("Name at least one agent, and ask for at least one world and one worker.")
    try:
        worlds = config_of(config.env, **read_options(config.env_options))
        competitors(config.agents, worlds.track)
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    start = time.perf_counter()
    seats: dict[str, list[SeatAudit]] = {name: [] for name in config.agents}
    failures = []
    for name, seed, played in track(_play_all(config, worlds), "worlds", len(config.agents) * config.worlds):
        if isinstance(played, str):
            failures.append({"agent": name, "world_seed": seed, "error": played})
        else:
            seats[name] += played
    for played in seats.values():
        played.sort(key=lambda seat: (seat.world_seed, seat.index))
    console = Console(width=None if sys.stdout.isatty() else 160)
    for level in LEVELS:
        if any(seat.level == level for played in seats.values() for seat in played) or level == "all":
            console.print(table(seats, level))
    for failure in failures:
        console.print(f"failed: {failure}", markup=False)
    if config.out is not None:
        _write(config, seats, failures, time.perf_counter() - start, {"about": about(__file__, argv)})
    return 1 if failures else 0


def _play_all(config: AuditConfig, worlds: EnvConfig) -> Iterator[tuple[str, int, list[SeatAudit] | str]]:
    """(agent, world seed, its seats or what went wrong), as they are played."""
    jobs = [(name, config.seed + i) for i in range(config.worlds) for name in config.agents]
    call, where = partial(play_job, worlds, config.seats), backend("loky", config.workers)
    for (name, seed), result in outcomes(call, jobs, where):
        yield name, seed, str(result) if isinstance(result, Lost) else result


def table(seats: dict[str, list[SeatAudit]], level: str) -> Table:
    """The rates of every agent on a level."""
    shown = Table(title=f"level: {level}", title_justify="left")
    for column in (
        "agent", "score", "U1 accepts", "U1 offers", "U2", "uncovered accepts", "uncovered offers", "U3 negotiated",
        "U3 exogenous", "seats",
    ):  # fmt: skip
        shown.add_column(column, justify="left" if column == "agent" else "right")
    for name, played in seats.items():
        found = rates(played, level)
        cells = [_cell(found[rate], 100) for rate in ("u1_accepts", "u1_offers", "u2_windows")]
        cells += [_cell(found[rate], 100) for rate in ("uncovered_accepts", "uncovered_offers")]
        cells += [_cell(found[rate], 1) for rate in ("short_negotiated", "short_exogenous")]
        shown.add_row(name.rpartition(":")[2], _cell(found["score"], 1, 3), *cells, f"{found['score'].of:.0f}")
    return shown


def _cell(rate: Rate, scale: float, digits: int = 2) -> str:
    value, low, high = (f"{scale * number:.{digits}f}" for number in rate[:3])
    return "-" if rate.of == 0 else f"{value}\n[{low}, {high}]"


def _write(
    config: AuditConfig, seats: dict[str, list[SeatAudit]], failures: list[Any], seconds: float, head: dict[str, Any]
) -> None:
    assert config.out is not None
    base = seats[config.agents[0]]
    found = {
        name: {
            level: {rate: number._asdict() for rate, number in rates(played, level).items()}
            | {"score_gain": gains(played, base, level)._asdict()}
            for level in LEVELS
        }
        for name, played in seats.items()
    }
    head = head | {"seconds": round(seconds), "failures": failures, "config": asdict(config) | {"out": str(config.out)}}
    plain = {name: [_plain(seat) for seat in played] for name, played in seats.items()}
    examples = {name: list(_chosen(played)) for name, played in seats.items()}
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(head | {"rates": found, "seats": plain}) + "\n")
    beside = config.out.with_name(f"{config.out.stem}_examples.json")
    beside.write_text(json.dumps(head | {"examples": examples}) + "\n")


def _plain(seat: SeatAudit) -> dict[str, Any]:
    """A seat without its examples, and without what it never did."""
    counts = {name: count for name, count in seat.counts.items() if count}
    return asdict(seat) | {"counts": counts, "examples": len(seat.examples)}


def _chosen(played: list[SeatAudit], each: int = 3) -> Iterator[dict[str, Any]]:
    """The first examples of each kind; `world_seed` and `index` are what `play.replay` takes."""
    kept: Counter[tuple[str, ...]] = Counter()
    for seat in played:
        for example in seat.examples:
            kind = (example["measure"], example["grade"], example.get("cause", ""), example["answers"][0]["operation"])
            kept[kind] += 1
            if kept[kind] <= each:
                yield {"world_seed": seat.world_seed, "index": seat.index, "level": seat.level} | example


if __name__ == "__main__":
    raise SystemExit(main())
