"""Times both engines beside SCML's own loop and RL environments.   python experiments/bench.py --env std-mini

One random masked policy first plays worlds in our environment until `--seconds` are spent. What it answered is the
workload: every case plays the same days of the same worlds, and the cases that take answers give the very same ones
(the column `same` says whether the balances agree at the end). Each case lives in a process of its own, so that its
peak memory is its own; the repeats of the cases take turns, so that a slow minute of the machine hits all of them.

A thread decision is an answer (end, accept, offer) that a live negotiation thread of a controlled factory gives when it
is its turn. Times are CPU time of the process, all its threads included, with drawing and building the worlds. `ratio`
is CPU per simulated day over that of SCML's own loop in the same repeat: below 1 is faster. SCML's own RL environments
choose random actions of their own space, so that their negotiations are others and shorter, and the same days mean less
work: compare their decisions per second. Of the answers that they take only those in turn count; SCML drops the others.

A second table of each environment is the fast engine's: the vector environment over numbers of worlds and cores, driven
by actions drawn evenly among the allowed ones, with the learner in one factory of each world (the others are compiled
opponents, whose decisions are simulated but not counted) and in all of them (every thread of the world is an agent,
with features, bounds, broadcast and state written for each; "by turns" shows one factory at a time, rows="window").
Its worlds are the id's own, from a prepared bank.

The folder `--out` receives bench.json (everything) and bench.csv (one line for each case).
"""

import csv
import json
import multiprocessing
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import tyro
from about import about
from bench_cases import BASELINE, CASES, RL_CASES, Measure, record
from bench_fast import FastCase, FastMeasure, describe, make_bank, run_fast, start_up
from rich.console import Console
from rich.table import Table

from scml_marl_env.registry import config_of


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """What is measured, and for how long."""

    env: tuple[str, ...] = ("std-mini", "oneshot-mini", "std-2025")
    """ids of scml_marl_env"""
    days: int = 50
    """length of each world; the number of days played follows from `seconds`"""
    repeats: int = 3
    """measurements of each case"""
    seconds: float = 1.0
    """CPU seconds that our environment plays; the other cases play the same days, however long it takes them, but
    SCML's own RL environments stop after three times as long"""
    seed: int = 0
    """of the first world and of the random policy"""
    rl: bool = True
    """also measure SCML's own RL environments"""
    real: bool = True
    """measure the real engine and what stands beside it"""
    fast: bool = True
    """measure the fast engine"""
    fast_worlds: tuple[int, ...] = (1, 16, 256, 1024)
    """numbers of worlds of the fast engine; 256 also on two cores"""
    fast_seconds: float = 4.0
    """seconds of each measurement of the fast engine"""
    bank_worlds: int = 256
    """prepared worlds that the fast engine plays"""
    policy: Path | None = None
    """checkpoint that plays all other factories in a further case of the fast engine for each number of worlds"""
    start_up: bool = True
    """also time the first make in a new process, with and without compiled code"""
    out: Path = Path("runs/bench")
    """folder for bench.json and bench.csv"""


def _serve(pipe: Connection, task: Callable[..., Any]) -> None:
    """The process of a case: runs `task` on whatever arrives until None does."""
    warnings.simplefilter("ignore")
    while (arguments := pipe.recv()) is not None:
        try:
            result = task(*arguments)
            if isinstance(result, Measure):
                result.peak_mb = _peak_mb()
        except Exception as error:
            result = error
        pipe.send(result)


def _peak_mb() -> float:
    """Peak memory of this process in MB. On Linux not ru_maxrss, which starts with that of the parent at the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


class _Worker:
    """A process that runs one task again and again."""

    def __init__(self, task: Callable[..., Any]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, task), daemon=True)
        self._process.start()

    def send(self, *arguments: Any) -> None:
        self._pipe.send(arguments)

    def receive(self) -> Any:
        result = self._pipe.recv()
        if isinstance(result, Exception):
            raise result
        return result

    def close(self) -> None:
        self._pipe.send(None)
        self._process.join(20)


def run_env(env_id: str, config: BenchConfig, say: Callable[[str], None]) -> dict[str, list[Measure]]:
    """Every case of one environment, `repeats` measurements each, in turns."""
    cases = CASES + (RL_CASES if config.rl else ())
    recorder, workers = _Worker(record), {name: _Worker(case) for name, case in cases}
    recorder.send(config_of(env_id, days=config.days), config.seconds, config.seed)
    workload = recorder.receive()
    recorder.close()
    first = workload.worlds[0]
    for worker in workers.values():
        worker.send(replace(workload, worlds=(replace(first, days=1, actions=first.actions[:2]),), seconds=0.05))
    for worker in workers.values():
        worker.receive()  # imports and compiled code are loaded now
    measures: dict[str, list[Measure]] = {name: [] for name in workers}
    for repeat in range(config.repeats):
        for name, worker in workers.items():
            say(f"{env_id}: repeat {repeat + 1} of {config.repeats}, {name}")
            worker.send(workload)
            measures[name].append(worker.receive())
    for worker in workers.values():
        worker.close()
    return measures


def run_fast_cases(env_id: str, config: BenchConfig, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Rows of the fast engine: each case in a process of its own, repeats in turns."""
    say(f"{env_id}: preparing {config.bank_worlds} worlds")
    bank = make_bank(env_id, config.bank_worlds)
    kinds: list[dict[str, Any]] = [{"controlled": 1}, {"controlled": "all", "rows": "window"}, {"controlled": "all"}]
    cases = [FastCase(n_worlds=n, threads=1, **kind) for kind in kinds for n in config.fast_worlds]
    if 256 in config.fast_worlds and (os.cpu_count() or 1) > 1:
        cases += [FastCase(n_worlds=256, threads=2, **kind) for kind in kinds]
    if config.policy is not None:
        cases += [FastCase(1, n, 1, f"checkpoint:{config.policy}") for n in config.fast_worlds]
    measures: dict[FastCase, list[FastMeasure]] = {case: [] for case in cases}
    for repeat in range(config.repeats):
        for case in cases:
            say(f"{env_id}: fast engine, repeat {repeat + 1} of {config.repeats}, {case}")
            worker = _Worker(run_fast)
            worker.send(env_id, bank, case, config.fast_seconds, config.seed + repeat)
            measures[case].append(worker.receive())
            worker.close()
    rows = []
    for case, found in measures.items():
        who = "one factory" if case.controlled == 1 else "all factories"
        who += " by turns" if case.rows == "window" else ""
        who += "" if case.opponents == "default" else " against policies"
        name = f"fast, {who}, E = {case.n_worlds}, {case.threads} core{'s' if case.threads > 1 else ''}"
        rows.append({"env": env_id, "case": name, **describe(found)})
    if config.start_up:
        say(f"{env_id}: start-up")
        rows += [
            {"env": env_id, "case": f"start-up, {name}", "seconds": t} for name, t in start_up(env_id, bank).items()
        ]
    return rows


def fast_table(env_id: str, rows: list[dict[str, Any]]) -> Table:
    """What was measured of the fast engine."""
    table = Table(title=f"{env_id}: fast engine", title_justify="left", title_style="bold")
    for column in ("case", "decisions / CPU s (low..high)", "decisions / s", "KiB / world", "grown MB", "seconds"):
        table.add_column(column, justify="left" if column == "case" else "right", no_wrap=True)
    for row in rows:
        if "seconds" in row:
            table.add_row(row["case"], "", "", "", "", f"{row['seconds']:.1f}")
            continue
        table.add_row(
            row["case"],
            f"{row['decisions_per_cpu_second']:,.0f} ({row['low']:,.0f}..{row['high']:,.0f})",
            f"{row['decisions_per_wall_second']:,.0f}",
            f"{row['kib_per_world']:.0f}",
            f"{row['grown_mb']:.1f}",
            "",
        )
    return table


def summarise(env_id: str, measures: Mapping[str, list[Measure]]) -> list[dict[str, Any]]:
    """One row for each case: medians, and (low, high) of the measured ones."""
    rows = []
    for name, repeats in measures.items():
        per_day = [m.cpu / m.days if m.days else float("nan") for m in repeats]
        rate = [m.decisions / m.cpu for m in repeats]
        ratio = [mine / (b.cpu / b.days) for mine, b in zip(per_day, measures[BASELINE], strict=True)]
        row = {
            "env": env_id, "case": name, "decisions_per_cpu_second": median(rate), "decisions_low": min(rate),
            "decisions_high": max(rate), "cpu_seconds_per_day": median(per_day), "cpu_low": min(per_day),
            "cpu_high": max(per_day), "ratio": median(ratio), "ratio_low": min(ratio), "ratio_high": max(ratio),
            "wall_seconds": median(m.wall for m in repeats), "peak_mb": max(m.peak_mb for m in repeats),
            "worlds": repeats[0].worlds, "days": repeats[0].days, "decisions": repeats[0].decisions,
            "same": repeats[0].same, "note": repeats[0].note,
        }  # fmt: skip
        for part in sorted({part for m in repeats for part in m.phases}):
            row[f"share: {part}"] = median(m.phases.get(part, 0.0) / sum(m.phases.values()) for m in repeats)
        rows.append(row)
    return rows


def result_table(env_id: str, rows: list[dict[str, Any]]) -> Table:
    """What was measured in one environment."""
    first = rows[0]
    title = f"{env_id}: {first['worlds']} worlds, {first['days']} days, {first['decisions']} decisions"
    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left")
    for column in ("case", "decisions / CPU s", "CPU ms / day", "ratio (low..high)", "wall s", "peak MB", "same"):
        table.add_column(column, justify="left" if column in ("case", "same") else "right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["case"],
            f"{row['decisions_per_cpu_second']:,.0f}",
            f"{1000 * row['cpu_seconds_per_day']:,.1f}",
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f}..{row['ratio_high']:.2f})",
            f"{row['wall_seconds']:.1f}",
            f"{row['peak_mb']:,.0f}",
            {None: "-", True: "yes", False: "no"}[row["same"]],
        )
    notes = {row["note"]: row["case"] for row in reversed(rows) if row["note"]}  # each once, for the first case
    table.caption = "\n".join(f"{case}: {note}" for note, case in notes.items()) or None
    return table


def share_table(env_id: str, rows: list[dict[str, Any]]) -> Table:
    """Where the time of ThreadEnv goes, the largest share first."""
    shares = {key[7:]: value for row in rows for key, value in row.items() if key.startswith("share: ")}
    table = Table(title=f"{env_id}: where the time of ThreadEnv goes", title_justify="left")
    table.add_column("part")
    table.add_column("share", justify="right")
    for part, share in sorted(shares.items(), key=lambda item: -item[1]):
        table.add_row(part, f"{share:.1%}")
    table.add_section()
    table.add_row("all that is ours", f"{1 - shares['SCML'] - shares['draw and build']:.1%}", style="bold")
    return table


def write(rows: list[dict[str, Any]], machine: Mapping[str, Any], config: BenchConfig) -> None:
    """bench.json with everything, bench.csv with a line for each case."""
    settings = {f.name: getattr(config, f.name) for f in fields(config)} | {
        "out": str(config.out),
        "policy": str(config.policy),
    }
    write_rows(config.out / "bench", rows, machine, settings)


def write_rows(path: Path, rows: list[dict[str, Any]], machine: Mapping[str, Any], settings: dict[str, Any]) -> None:
    """`path` with .json added holds everything, with .csv a line for each row, each with the machine's columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"about": dict(machine), "settings": settings, "rows": rows}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row)) + list(machine)
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(row | dict(machine) for row in rows)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the tables, writes them, and returns 0."""
    config = tyro.cli(BenchConfig, args=argv, description=__doc__)
    machine, rows = about(__file__, argv), []
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    with tempfile.TemporaryDirectory(prefix="scml-bench-") as logs:
        # For the processes of the cases: SCML writes to the home of the user, and some of its own agents iterate
        # over sets of ids, so that the same seed gives another world where strings hash differently.
        os.environ.update(NEGMAS_LOG_BASE=logs, PYTHONHASHSEED="0")
        for env_id in config.env:
            if config.real:
                with console.status(f"{env_id}: drawing and playing the workload") as status:
                    found = summarise(env_id, run_env(env_id, config, status.update))
                rows += found
                console.print(result_table(env_id, found), share_table(env_id, found))
            if config.fast:
                with console.status(f"{env_id}: fast engine") as status:
                    found = run_fast_cases(env_id, config, status.update)
                rows += found
                console.print(fast_table(env_id, found))
    write(rows, machine, config)
    console.print(f"written to {config.out / 'bench.json'} and bench.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
