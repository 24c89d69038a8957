"""Pictures of a tournament: scores by level, pairwise comparison, performance profile; as PNG and as one HTML page."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.tournament.record import WorldRecord
from scml_marl_env.tournament.statistics import EXTRA, LEVELS, Summary

TITLES = (
    "interquartile mean of the score, 95 % interval",
    "probability of improvement, row over column",
    "paired difference of the mean score, row - column",
    "performance profile: share of the seats with a score above x",
)


def _names(summary: Summary) -> list[str]:
    return [one.name for one in summary.competitors if one.seats]


def _matrix(summary: Summary, kind: str) -> np.ndarray:
    """float64 (C, C), row against column; nan on the diagonal and where no seat is shared."""
    names = _names(summary)
    pairs = [[summary.pairs.get((a, b)) for b in names] for a in names]
    return np.array([[getattr(p, kind).value if p else np.nan for p in row] for row in pairs], float).reshape(
        len(names), len(names)
    )


def _profile(records: Iterable[WorldRecord], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores in order and the share of the seats above each."""
    seats = [seat for record in records for seat in record.seats if seat.competitor == name]
    score = np.sort([seat.measures["score"] for seat in seats if np.isfinite(seat.measures["score"])])
    return score, 1 - np.arange(1, len(score) + 1) / len(score)


def write_png(path: Path, records: Iterable[WorldRecord], summary: Summary) -> None:
    """Four panels.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(f"The PNG needs matplotlib; install {EXTRA}.") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    records, names = list(records), _names(summary)
    size = 4 + 0.35 * len(names)
    figure, axes = pyplot.subplots(2, 2, figsize=(14, 2 * size), layout="constrained")
    _draw_levels(axes[0, 0], summary)
    largest = np.nanmax(np.abs(_matrix(summary, "difference")), initial=1e-9)
    for axis, kind, low, high in ((axes[0, 1], "improvement", 0, 1), (axes[1, 0], "difference", -largest, largest)):
        _draw_matrix(axis, names, _matrix(summary, kind), low, high)
    for name in names:
        score, above = _profile(records, name)
        axes[1, 1].step(np.r_[score[:1], score], np.r_[1, above], where="post", label=name)
    axes[1, 1].set(xlabel="score", ylabel="share of the seats", ylim=(0, 1.02))
    if names:
        axes[1, 1].legend(fontsize=8)
    for axis, title in zip(axes.flat, TITLES, strict=True):
        axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _draw_levels(axis: Any, summary: Summary) -> None:
    ones = [one for one in summary.competitors if one.seats]
    for row, (level, color) in enumerate(
        zip((*LEVELS, "all"), ("tab:blue", "tab:orange", "tab:green", "k"), strict=True)
    ):
        found = [(i, one.iqm if level == "all" else one.level_iqm.get(level)) for i, one in enumerate(ones)]
        rows = [(i + 0.17 * (row - 1.5), e) for i, e in found if e is not None]
        if rows:
            at, value = [i for i, _ in rows], np.array([e.value for _, e in rows])
            ends = np.array([[e.value - e.low, e.high - e.value] for _, e in rows]).T
            axis.errorbar(
                value, at, xerr=np.maximum(ends, 0), fmt="o", color=color, label=level, capsize=2, markersize=4
            )
    axis.set(yticks=range(len(ones)), yticklabels=[one.name for one in ones], xlabel="score")
    axis.invert_yaxis()
    axis.grid(axis="x", alpha=0.3)
    if ones:
        axis.legend(fontsize=8)


def _draw_matrix(axis: Any, names: list[str], matrix: np.ndarray, low: float, high: float) -> None:
    if not names:
        return
    axis.imshow(matrix, vmin=low, vmax=high, cmap="RdBu", aspect="auto")
    axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axis.set_yticks(range(len(names)), names)
    for (i, j), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            dark = abs(value - (low + high) / 2) > 0.35 * (high - low)
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color="w" if dark else "k")


def write_html(path: Path, records: Iterable[WorldRecord], summary: Summary) -> None:
    """One page with the four panels; plotly.js is inside.

    Raises:
        ImportError: plotly is missing.
    """
    try:
        from plotly import graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError as error:
        raise ImportError(f"The HTML page needs plotly; install {EXTRA}.") from error
    records, names = list(records), _names(summary)
    figure = make_subplots(2, 2, subplot_titles=TITLES, horizontal_spacing=0.16)
    for level in (*LEVELS, "all"):
        ones = [one for one in summary.competitors if one.seats and (level == "all" or level in one.level_iqm)]
        found = [one.iqm if level == "all" else one.level_iqm[level] for one in ones]
        ends = {"array": [e.high - e.value for e in found], "arrayminus": [e.value - e.low for e in found]}
        bars = {"type": "data", "symmetric": False, **ends}
        x, y = [e.value for e in found], [one.name for one in ones]
        figure.add_trace(go.Scatter(x=x, y=y, error_x=bars, mode="markers", name=level), row=1, col=1)
    largest = float(np.nanmax(np.abs(_matrix(summary, "difference")), initial=1e-9))
    for kind, low, high, row, col in (("improvement", 0, 1, 1, 2), ("difference", -largest, largest, 2, 1)):
        heat = go.Heatmap(
            z=_matrix(summary, kind), x=names, y=names, zmin=low, zmax=high, colorscale="RdBu", showscale=False,
            texttemplate="%{z:.2f}",
        )  # fmt: skip
        figure.add_trace(heat, row=row, col=col)
        figure.update_yaxes(autorange="reversed", row=row, col=col)
    for name in names:
        score, above = _profile(records, name)
        line = go.Scatter(x=np.r_[score[:1], score], y=np.r_[1, above], mode="lines", line_shape="hv", name=name)
        figure.add_trace(line, row=2, col=2)
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    figure.update_layout(height=900 + 40 * len(names), template="plotly_white")
    figure.write_html(path, include_plotlyjs=True)
