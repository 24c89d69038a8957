"""Hands the competitors to SCML's own tournament runner, all else as the league has it, and reads its results."""

import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scml_marl_env.tournament.competitors import Competitor
from scml_marl_env.tournament.plan import Tournament
from scml_marl_env.tournament.prices import fractional_prices

_MODULE = "league_agents_{}"


def play_league(tournament: Tournament, folder: Path, workers: int | None = None) -> list[dict[str, Any]]:
    """Runs `scml.utils.anac2024_std` or `anac2024_oneshot`.

    Args:
        tournament: competitors, `worlds` (configurations of the official generator, each played with every assignment
            of competitors), days and processes of its options. The league fixes everything else, and draws its worlds
            without a seed.
        folder: receives `league/`, what SCML writes, and league.json.
        workers: 1 plays in this process; anything else lets SCML use all cores.

    Returns:
        A row for each competitor, best first: "name", "score" (the league's: the truncated mean), "mean", "std",
        "worlds".

    Raises:
        ValueError: for options that the league does not have, or if it finished no world.
    """
    config = tournament.config()
    foreign = sorted(set(tournament.options) - {"days", "processes"})
    if foreign or tournament.mode != "free":
        raise ValueError(f"SCML's own runner knows only days and processes, not {', '.join(foreign) or 'mode=swap'}.")
    if tournament.fractional_prices == "accept" and workers != 1:
        raise ValueError("In SCML's own runner fractional prices can be accepted only in one process: --workers 1.")
    from scml import utils

    play = {"std": utils.anac2024_std, "oneshot": utils.anac2024_oneshot}[config.track]
    folder.mkdir(parents=True, exist_ok=True)
    classes = write_classes(tournament.competitors, folder)
    chosen = {"n_steps": "days", "n_processes": "processes"}
    with fractional_prices(tournament.fractional_prices == "accept"):
        results = play(
            competitors=list(classes),
            n_configs=tournament.worlds,
            tournament_path=str(folder / "league"),
            parallelism="serial" if workers == 1 else "parallel",
            forced_logs_fraction=0.0,
            **{name: getattr(config, ours) for name, ours in chosen.items() if ours in tournament.options},
        )
    if not len(results.total_scores):
        raise ValueError(f"SCML's runner finished no world; its logs are in {folder / 'league'}.")
    rows = read_results(results, dict(zip(classes, tournament.competitors, strict=True)))
    about = {"tournament": tournament.to_json(), "competitors": rows}
    (folder / "league.json").write_text(json.dumps(about, indent=1))
    return rows


def write_classes(competitors: Sequence[Competitor], folder: Path) -> list[str]:
    """Writes a module with one class without arguments for each competitor, as the league takes them.

    Returns:
        Their import paths. The module can be imported by this process and those that it starts.
    """
    module = _MODULE.format(abs(hash(folder.resolve())) % 10**8)
    lines, names = ['"""Written by scml_marl_env.tournament.league: the competitors without arguments."""'], []
    for number, competitor in enumerate(competitors):
        base_module, _, base = competitor.path.partition(":")
        words = re.findall("[A-Za-z0-9]+", competitor.name)  # negmas knows only names in CamelCase
        name = f"Agent{''.join(word.capitalize() for word in words)}N{number}"
        names.append(f"{module}.{name}")
        lines += [
            f"import {base_module}",
            f"class {name}({base_module}.{base}):",
            "    def __init__(self, *args, **kwargs):",
            f"        super().__init__(*args, **kwargs | {competitor.params!r})",
        ]
    (folder / f"{module}.py").write_text("\n".join(lines) + "\n")
    place = str(folder.resolve())
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
    importlib.invalidate_caches()
    return names


def read_results(results: Any, by_class: dict[str, Competitor]) -> list[dict[str, Any]]:
    """Rows of `play_league` of negmas' TournamentResults; `by_class` names the competitor of each class."""
    total = dict(zip(_classes_of(results.total_scores), results.total_scores["score"], strict=True))
    scores, played_by = results.scores["score"], _classes_of(results.scores)
    rows = []
    for path, competitor in by_class.items():
        mine = scores[played_by == path]
        rows.append(
            {
                "name": competitor.name,
                "score": float(total[path]),
                "mean": float(mine.mean()),
                "std": float(mine.std()),
                "worlds": len(mine),
            }
        )
    return sorted(rows, key=lambda row: -row["score"])


def _classes_of(table: Any) -> Any:
    """The class of each row; SCML writes it behind that of its adapter."""
    return table["agent_type"].str.rpartition(":")[2]


def print_league(rows: list[dict[str, Any]], console: Any) -> None:
    """Prints what `play_league` returned."""
    from rich.table import Table

    table = Table(title="SCML's own runner: truncated mean of the score, over all worlds")
    for column in ("name", "score", "mean", "std", "worlds"):
        table.add_column(column, justify="left" if column == "name" else "right")
    for row in rows:
        table.add_row(row["name"], *(f"{row[x]:.3f}" for x in ("score", "mean", "std")), str(row["worlds"]))
    console.print(table)
