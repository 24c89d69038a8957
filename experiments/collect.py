"""Records experts into a dataset.   python experiments/collect.py --experts penguin,prudent --worlds 100

An expert is a name (an agent of scml_marl_env.opponents or a competition agent), the import path of an agent class, or
the folder of a checkpoint. Every expert plays the same worlds in the same seats, watched by a recorder that changes
nothing of what it does. A world of std-2025 has some 2,500 decisions of an expert such as penguin, 6,000 of one that
talks as long as prudent, and takes 10 to 20 seconds of a core: 1,000,000 decisions are about 200 worlds of penguin and
as0, or 40 of random, sync-random, greedy and prudent. A decision takes 1.3 to 1.7 kB.

Interrupt it at any time: the same command goes on, and makes the same dataset byte for byte. It is the folder `--out`;
while it is being collected, the logs of the finished worlds are in `--out`.logs, about 0.5 kB for each decision. They
are deleted once the dataset is made (it holds all that learners need), unless `--keep-logs`.
"""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from scml_marl_env.config import read_options
from scml_marl_env.data.collect import FIRST_SEED, Collection, Played, collect
from scml_marl_env.tournament.backends import backend


@dataclass(frozen=True, kw_only=True)
class CollectConfig:
    """Who is recorded, and where."""

    experts: str
    """names, import paths or folders of checkpoints, with commas between; "label=expert" gives one a name"""
    worlds: int
    """world seeds; each is played once by every expert. More than a finished dataset holds: all are played again, but
    for those whose logs were kept"""
    out: Path = Path("runs/data")
    """folder of the dataset"""
    env: str = "std-2025"
    """id of scml_marl_env: track, size of the worlds, opponents, features"""
    env_options: tuple[str, ...] = ()
    """key=value options of the environment, such as days=50 or opponents=champions; values are read as JSON where they
    are JSON"""
    seats: Literal["levels", "official"] = "levels"
    """the first factory of every level, or those where the official generator placed competitors"""
    fractional_prices: Literal["refuse", "accept"] = "refuse"
    """offers at fractional prices: refused as by negmas 0.16, or accepted as before it"""
    seed: int = FIRST_SEED
    """world seed of the first world; the others follow. By the last digit 1 is validation, 2 test, the rest training"""
    backend: Literal["loky", "serial", "ray"] = "loky"
    """where worlds are played"""
    workers: int | None = None
    """worlds at a time, by default one for each core"""
    time_limit: float = 1800.0
    """seconds for one world"""
    keep_logs: bool = False
    """keep the logs of every window, answer and day when the dataset is made"""


def main(argv: list[str] | None = None) -> int:
    """Plays, prints the card; returns 1 if a world failed."""
    arguments = sys.argv[1:] if argv is None else argv
    config = tyro.cli(CollectConfig, args=arguments, description=__doc__)
    if config.worlds < 1 or (config.workers is not None and config.workers < 1):
        raise SystemExit("Ask for at least one world and one worker.")
    start, console = time.perf_counter(), Console() if sys.stdout.isatty() else Console(width=140)
    try:
        collection = Collection.of(
            config.experts.split(","),
            config.env,
            options=read_options(config.env_options),
            seats=config.seats,
            fractional_prices=config.fractional_prices,
            first_seed=config.seed,
        )
        where = backend(config.backend, config.workers)
        with _Bar(console, config.worlds * len(collection.experts)) as bar:
            data, failed = collect(
                collection, config.out, config.worlds, where, config.time_limit, config.keep_logs, bar.note
            )
    except (ValueError, TypeError, ModuleNotFoundError) as error:
        raise SystemExit(str(error)) from error
    except KeyboardInterrupt:
        raise SystemExit("Interrupted; the same command goes on.") from None
    for played in failed:
        expert = collection.experts[played.job.expert].name
        console.print(f"failed: world {played.job.world_seed}, expert {expert}: {played.error}", markup=False)
    if failed:
        console.print(
            f"The same command plays them again: {shlex.join(['python', 'experiments/collect.py', *arguments])}"
        )
    if data is None:
        console.print("No world gave a single decision, so there is no dataset.")
        return 1
    for expert, n in data.manifest["about"].get("exceptions", {}).items():  # not counted before traj/2
        if n:
            console.print(f"{expert} raised {n} exceptions, each in place of an answer.", style="red", markup=False)
    console.print(card_table(data.manifest["card"]))
    size, seconds = sum(path.stat().st_size for path in config.out.iterdir()), time.perf_counter() - start
    console.print(f"{config.out}: {data.n_decisions} decisions, {size / 1e6:.0f} MB, {seconds:.0f} seconds")
    return 1 if failed else 0


class _Bar:
    """The progress of a collection."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (TextColumn("worlds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, TextColumn("{task.fields[decisions]} decisions"), console=console)
        self._task = self._bar.add_task("worlds", total=total, decisions=0)
        self._decisions = 0

    def __enter__(self) -> "_Bar":
        self._bar.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._bar.stop()

    def note(self, played: Played) -> None:
        self._decisions += played.decisions
        self._bar.update(self._task, advance=1, decisions=self._decisions)


def card_table(card: dict[str, Any]) -> Table:
    """The card of a dataset, a line for each expert and level."""
    splits = ", ".join(f"{count['worlds']} {name}" for name, count in card["splits"].items())
    title = f"{card['decisions']} decisions in {card['episodes']} episodes of {card['worlds']} worlds ({splits})"
    shown = Table(title=title, title_justify="left")
    for name in (
        "expert", "level", "episodes", "decisions", "end %", "accept %", "offer %", "outside L1 %", "invalid %",
        "quantity changed %", "price changed %", "score",
    ):  # fmt: skip
        shown.add_column(name, justify="left" if name in ("expert", "level") else "right")
    for group in card["groups"]:
        shares = [*group["share"].values(), group["outside_l1"]["all"], group["invalid"]]
        shares += [group["quantity_changed"], group["price_changed"]]
        score = f"{group['score']['mean']:.3f} ± {group['score']['std']:.3f}"
        counts = str(group["episodes"]), str(group["decisions"])
        shown.add_row(group["expert"], group["level"], *counts, *(f"{100 * share:.2f}" for share in shares), score)
    return shown


if __name__ == "__main__":
    raise SystemExit(main())
