"""The report of a tournament: table, report.json, worlds.csv, Markdown, and the plots beside them."""

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scml_marl_env.tournament.record import MEASURES, WorldRecord
from scml_marl_env.tournament.statistics import FORMULAS, LEVELS, CompetitorSummary, Estimate, Summary, level_class

SHOWN = tuple(measure for measure in MEASURES if measure != "score")
"""The measures of the second table."""
_ABREAST = 6  # competitors in one table of measures


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"


def _interval(estimate: Estimate, sign: str = "") -> str:
    return f"{_number(estimate.value, sign)} [{_number(estimate.low, sign)}, {_number(estimate.high, sign)}]"


HEAD = (
    "competitor", "iqm", "mean", "truncated", "difference", "improvement", "rating", "worlds", "seats", "missing",
    "failed",
)  # fmt: skip


def _cells(one: CompetitorSummary, summary: Summary) -> list[str]:
    versus = summary.against_baseline(one.name)
    return [
        one.name + (" (baseline)" if one.name == summary.baseline else ""),
        _interval(one.iqm),
        _interval(one.mean),
        _number(one.truncated),
        _interval(versus.difference, "+") if versus else "-",
        _interval(versus.improvement) if versus else "-",
        f"{one.rating[0] - 3 * one.rating[1]:.1f}" if one.rating else "-",
        str(one.worlds),
        str(one.seats),
        str(one.missing),
        str(one.failed),
    ]


LEVEL_HEAD = ("difference by level class", *LEVELS)


def _level_rows(summary: Summary) -> list[list[str]]:
    """The paired difference from the baseline by level class, with its number of seats."""
    rows = []
    for one in summary.competitors:
        versus = summary.against_baseline(one.name)
        if versus:
            found = [versus.levels.get(level, Estimate()) for level in LEVELS]
            rows.append([one.name, *(f"{_interval(e, '+')} n={e.seats}" if e.seats else "-" for e in found)])
    return rows


def _title(summary: Summary) -> str:
    failures = ", ".join(f"{times} {kind}" for kind, times in summary.failures.items()) or "none"
    return (
        f"{summary.records} records, {summary.worlds} world seeds, failures: {failures}, "
        f"baseline: {summary.baseline or 'none'}, bootstrap seed {summary.seed}"
    )


def print_table(summary: Summary, console: Console) -> None:
    """Scores, also by level, the measures, the formula of everything shown, and the notes."""
    table = Table(*HEAD, title=_title(summary))
    table.columns[0].no_wrap = True
    for one in summary.competitors:
        table.add_row(*map(escape, _cells(one, summary)))
    console.print(table)
    levels = Table("competitor", *LEVELS, title="iqm of the score by level class")
    for one in summary.competitors:
        found = [one.level_iqm.get(level, Estimate()) for level in LEVELS]
        levels.add_row(escape(one.name), *(f"{_interval(e)} n={e.seats}" if e.seats else "-" for e in found))
    console.print(levels)
    if rows := _level_rows(summary):
        differences = Table(*LEVEL_HEAD, title=f"difference from {escape(str(summary.baseline))}, on the same seats")
        for row in rows:
            differences.add_row(*map(escape, row))
        console.print(differences)
    for name, formula in FORMULAS.items():
        console.print(f"  {name}: {formula}", markup=False, highlight=False)
    console.print(f"  score: {MEASURES['score'][1]}", markup=False, highlight=False)
    for first in range(0, len(summary.competitors), _ABREAST):
        console.print(_measures(summary.competitors[first : first + _ABREAST]))
    for note in summary.notes:
        console.print(f"note: {note}", markup=False, highlight=False)


def _measures(competitors: Sequence[CompetitorSummary]) -> Table:
    """The measures of a few competitors beside their formulas."""
    table = Table("measure", "unit", *(escape(one.name) for one in competitors), "formula")
    for measure in SHOWN:
        unit, formula = MEASURES[measure]
        table.add_row(measure, unit, *(_number(one.measures[measure]) for one in competitors), formula)
    for counter in sorted({counter for one in competitors for counter in one.extra}):
        sums = [f"{one.extra[counter][1]:g}" if counter in one.extra else "-" for one in competitors]
        table.add_row(escape(counter), "sum", *sums, "counted by the agent itself")
    return table


def _markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def markdown(summary: Summary) -> str:
    """The table of scores for a README, with what it rests on and its formulas beneath."""
    lines = _markdown_table(HEAD, [_cells(one, summary) for one in summary.competitors])
    if rows := _level_rows(summary):
        lines += ["", *_markdown_table(LEVEL_HEAD, rows)]
    formulas = [f"- {name}: {formula}" for name, formula in FORMULAS.items()]
    formulas.append(f"- score: {MEASURES['score'][1]}")
    notes = [f"- note: {note}" for note in summary.notes]
    return "\n".join([*lines, "", _title(summary) + ".", "", *formulas, *notes]) + "\n"


def _plain(value: Any) -> Any:
    """The value for JSON: nan and infinity become null, keys become strings."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def report(summary: Summary, about: dict[str, Any]) -> dict[str, Any]:
    """Everything, as JSON knows it: `about` of the caller, formulas, figures; nan is null."""
    raw = asdict(summary)
    raw["pairs"] = [{"competitor": a, "other": b, **asdict(pair)} for (a, b), pair in summary.pairs.items()]
    formulas = FORMULAS | {name: f"{formula} ({unit})" for name, (unit, formula) in MEASURES.items()}
    return _plain({"about": about, "formulas": formulas, **raw})


def write_worlds(path: Path, records: Iterable[WorldRecord]) -> None:
    """One line per seat, sorted; a failed world has one line with its error and no seat."""
    records = sorted(records, key=lambda record: (record.world_seed, record.rotation, record.key))
    extras = sorted({name for record in records for seat in record.seats for name in seat.extra})
    head = ["world_seed", "key", "rotation", "error", "n_days", "n_levels", "seconds", "index", "level", "level_class"]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*head, "competitor", *MEASURES, *(f"extra_{name}" for name in extras)])
        for record in records:
            world = [record.world_seed, record.key, record.rotation, record.error or ""]
            world += [record.n_days, record.n_levels, record.seconds]
            if not record.seats:
                writer.writerow(world + [""] * (4 + len(MEASURES) + len(extras)))
            for seat in record.seats:
                measures = [seat.measures.get(name, float("nan")) for name in MEASURES]
                place = [seat.index, seat.level, level_class(seat), seat.competitor]
                writer.writerow([*world, *place, *measures, *(seat.extra.get(name, "") for name in extras)])


def write_report(folder: Path, records: Iterable[WorldRecord], summary: Summary, about: dict[str, Any]) -> None:
    """Writes report.json, worlds.csv, table.md, report.png and report.html.

    Args:
        folder: is made if needed; files of these names in it are replaced.
        records: those of the summary.
        about: command, versions, date, git commit and options, from the caller.

    Raises:
        ImportError: matplotlib or plotly is missing; the other files are written by then.
    """
    from scml_marl_env.tournament import plots

    records = list(records)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report(summary, about), indent=1, allow_nan=False) + "\n")
    write_worlds(folder / "worlds.csv", records)
    head = f"`{about['command']}`\n\n" if "command" in about else ""
    (folder / "table.md").write_text(head + markdown(summary))
    plots.write_png(folder / "report.png", records, summary)
    plots.write_html(folder / "report.html", records, summary)
