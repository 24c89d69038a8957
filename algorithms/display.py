"""A live table of a run: how far, how well, and where the time goes; plain lines where there is no terminal."""

import math
from collections import Counter
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from algorithms.log import LEARN_PHASES, OFFLINE_LEARN_PHASES, OFFLINE_PHASES, PHASES

SHOWN = (
    "train/return",
    "eval/return",
    "eval/random",
    "policy/entropy",
    "policy/kl",
    "policy/clip_fraction",
    "loss/value",
    "value/explained_variance",
    "train/changed",
    "time/decisions_per_second",
)


OFFLINE_SHOWN = (
    "loss/policy",
    "validation/nll",
    "validation/accuracy",
    "validation/accuracy/operation",
    "validation/ece/action",
    "policy/grad_norm",
    "loss/value",
    "value/explained_variance",
)


class Display:
    """Shows each update; keeps the last value of everything, and the seconds of every phase."""

    def __init__(self, title: str, n_updates: int, console: Console | None = None, offline: bool = False) -> None:
        """Prepares a table titled `title` for a run of `n_updates`; `offline` ones are passes over recorded data."""
        self._shown = OFFLINE_SHOWN if offline else SHOWN
        self._phases = OFFLINE_PHASES if offline else PHASES
        self._parts = OFFLINE_LEARN_PHASES if offline else LEARN_PHASES
        self._key = "validation/nll" if offline else "eval/return"
        self._title, self._n_updates = title, n_updates
        self._console = console or Console()
        self._latest: dict[str, float] = {}
        self._seconds: Counter[str] = Counter()
        self._learning: Counter[str] = Counter()
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> "Display":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, row: dict[str, float]) -> None:
        """Shows one update; without a terminal one line for each evaluation."""
        self._latest |= {name: value for name, value in row.items() if not math.isnan(value)}
        self._seconds.update({phase: row[f"time/{phase}"] for phase in self._phases})
        self._learning.update({phase: row[f"time/learn_{phase}"] for phase in self._parts})
        if self._live:
            self._live.update(self.render(), refresh=True)
        elif not math.isnan(row.get(self._key, math.nan)) or row["update"] == self._n_updates:
            parts = [f"{name} {self._latest[name]:.4g}" for name in self._shown if name in self._latest]
            self._console.print(f"update {row['update']:.0f}/{self._n_updates}  " + "  ".join(parts), soft_wrap=True)

    def render(self) -> Group:
        """Returns bar, numbers and times."""
        latest, total = self._latest, sum(self._seconds.values()) or 1.0
        done = latest.get("update", 0)
        numbers = Table.grid(padding=(0, 2))
        for name in self._shown:
            numbers.add_row(name, f"{latest[name]:.4g}" if name in latest else "")
        times = Table.grid(padding=(0, 2))
        for phase in self._phases:
            times.add_row(phase, f"{self._seconds[phase]:.1f} s", f"{self._seconds[phase] / total:.0%}")
            for part in self._parts if phase == "learn" else ():
                times.add_row(f"  {part}", f"{self._learning[part]:.1f} s", f"{self._learning[part] / total:.0%}")
        both = Table(title=self._title, title_justify="left", show_header=False, box=None)
        both.add_row(numbers, times)
        head = f"update {done:.0f} of {self._n_updates}, {latest.get('decisions', 0):,.0f} decisions"
        return Group(both, head, ProgressBar(total=self._n_updates, completed=done, width=60))
