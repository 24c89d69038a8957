"""The fast engine's part of bench.py: throughput over the number of worlds and cores, memory, and start-up times.

A compiled policy draws evenly among the actions that the mask allows, and every step writes bounds, features, broadcast
and state of the agents that decide.
"""

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numba
import numpy as np

from scml_marl_env.actions import ACCEPT, BEST_PRICE, CAN_ACCEPT, END, LAST_LEAD, N_PRICES, OFFER, PRICE_SIGN, QUANTITY
from scml_marl_env.layers.l1_bounds import price_offset

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class FastCase:
    """One way of using the vector environment."""

    controlled: int | str
    n_worlds: int
    threads: int
    opponents: str = "default"
    rows: Literal["all", "window"] = "all"


@dataclass
class FastMeasure:
    """What one run of a case gave."""

    decisions: int
    cpu: float
    wall: float
    episodes: int
    kib_per_world: float
    grown_mb: float  # resident memory from the middle of the run to its end


@numba.njit(cache=True)
def draw_actions(
    bounds: np.ndarray, active: np.ndarray, quantities: np.ndarray, n_leads: int, stream: np.ndarray, out: np.ndarray
) -> int:
    """Draws evenly among the allowed actions, as `Discrete.sample(mask)` does, by rejection; returns how many it drew.

    Args:
        bounds: int32 (E, N, M).
        active: bool (E, N).
        quantities: int64 (Q,), of the grid.
        n_leads: L.
        stream: uint64 (1,), xorshift state.
        out: int64 (E, N), written where an agent is active.
    """
    x, low, n_drawn, n_quantities = stream[0], np.uint64(0xFFFFFFFF), 0, quantities.shape[0]
    n_levels = bounds.shape[2] - QUANTITY - 2 * n_leads
    rows, marks, drawn = bounds.reshape(-1, bounds.shape[2]), active.reshape(-1), out.reshape(-1)
    eights = marks[: marks.size // 8 * 8].view(np.uint64)  # most agents are not active: eight at a glance
    n = -1
    while n + 1 < marks.size:
        n += 1
        if n % 8 == 0 and n // 8 < eights.size and eights[n // 8] == 0:
            n += 7
        if not marks[n]:
            continue
        row, action = rows[n], END
        leads, levels = row[LAST_LEAD] + 1, min(row[N_PRICES], n_levels)
        n_cells = leads * levels * n_quantities + 2
        for _ in range(256):
            x ^= x << np.uint64(13)
            x ^= x >> np.uint64(7)
            x ^= x << np.uint64(17)
            cell = int(x >> np.uint64(32)) * n_cells >> 32
            if cell == 0 or (cell == 1 and row[CAN_ACCEPT]):
                action = END if cell == 0 else ACCEPT
                break
            if cell == 1:
                continue
            place = int(x & low) * leads  # the digits of a fraction, one after the other
            d, place = place >> 32, (place & 0xFFFFFFFF) * levels
            level, place = place >> 32, (place & 0xFFFFFFFF) * n_quantities
            size, quantity = place >> 32, quantities[place >> 32]
            price = row[BEST_PRICE] + row[PRICE_SIGN] * price_offset(level, row[N_PRICES], n_levels)
            fits = quantity <= row[QUANTITY + d] and quantity * price <= row[QUANTITY + n_leads + d]
            if fits and (d > 0 or quantity <= row[QUANTITY + 2 * n_leads + level]):
                action = OFFER + (d * n_quantities + size) * n_levels + level
                break
        drawn[n] = action
        n_drawn += 1
    stream[0] = x
    return n_drawn


def run_fast(env_id: str, bank: str, case: FastCase, seconds: float, seed: int) -> FastMeasure:
    """Plays for some seconds in this process."""
    import scml_marl_env

    env = scml_marl_env.make_vector(
        env_id,
        case.n_worlds,
        seed,
        case.threads,
        engine="fast",
        controlled=case.controlled,
        bank=bank,
        opponents=case.opponents,
        rows=case.rows,
    )
    grid = env.action_grid
    actions, stream = np.zeros((env.n_worlds, env.n_agents), np.int64), np.array([seed + 1], np.uint64)
    env.reset(seed)

    def play(until: float) -> tuple[int, int]:
        decisions = episodes = 0
        while time.perf_counter() < until:
            for _ in range(8):
                decisions += draw_actions(env.bounds, env.active, grid.quantity_array, grid.n_leads, stream, actions)
                env.step(actions)
                episodes += len(env.episodes)
                env.episodes.clear()
        return decisions, episodes

    play(time.perf_counter() + min(2.0, seconds))  # compiles, and spreads the worlds over their episodes
    half = _resident_mb()
    cpu, wall = time.process_time(), time.perf_counter()
    decisions, episodes = play(wall + seconds)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    grown = _resident_mb() - half
    size = env.nbytes / env.n_worlds / 1024
    env.close()
    return FastMeasure(decisions, cpu, wall, episodes, size, grown)


def start_up(
    env_id: str, bank: str, tree: Path = _ROOT, clock: str = "perf_counter", only_cold: bool = False
) -> dict[str, float]:
    """Seconds of first calls in a new process: without compiled code, with it, with it and no bank.

    From the import to the end of each call: of a `ThreadEnv`, and of a vector environment in a process and with a cache
    of its own.

    Args:
        env_id, bank: what is made.
        tree: checkout of this project that is started.
        clock: of the module `time`.
        only_cold: without compiled code only.
    """
    begin = f"from time import {clock} as now; t = now(); import numpy, scml_marl_env; "
    programs = {
        ("make", "make and reset", "and a step"): begin
        + "env = scml_marl_env.make({id!r}, engine='fast', bank={bank!r}); made = now() - t; "
        "env.reset(seed=0); begun = now() - t; env.step(dict.fromkeys(env.agents, 0)); "
        "print(made, begun, now() - t)",
        ("vector make, reset and step",): begin
        + "env = scml_marl_env.make_vector({id!r}, 2, engine='fast', bank={bank!r}); env.reset(); "
        "env.step(numpy.zeros(env.active.shape, int)); print(now() - t)",
    }
    times = {}
    for names, code in programs.items():
        with tempfile.TemporaryDirectory(prefix="scml-bench-cache-") as cache:
            environment = environment_of(tree) | {"NUMBA_CACHE_DIR": cache}
            for state, folder in (("cold", bank), ("warm", bank), ("warm, no bank", None))[: 1 if only_cold else None]:
                text = code.format(id=env_id, bank=folder)
                run = subprocess.run(
                    [sys.executable, "-c", text], env=environment, cwd=tree, capture_output=True, text=True, check=True
                )
                seconds = map(float, run.stdout.split()[-len(names) :])
                times |= {f"{state}: {name}": value for name, value in zip(names, seconds, strict=True)}
    return times


def environment_of(tree: Path) -> dict[str, str]:
    """Variables with which a process plays the package of a checkout, not the installed one."""
    path = os.pathsep.join(str(tree.resolve() / part) for part in ("", "experiments"))
    return {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}


def make_bank(env_id: str, n_worlds: int) -> str:
    """The folder of a bank of the id's worlds, made in the user's cache if it is not there."""
    from scml_marl_env.registry import config_of
    from scml_marl_env.world.bank import cached_bank

    return str(cached_bank(config_of(env_id), n_worlds))


def _resident_mb() -> float:
    status = Path("/proc/self/statm")
    if not status.exists():
        return 0.0
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1024**2


def describe(measures: list[FastMeasure]) -> dict[str, Any]:
    """Medians and ranges of the repeats of one case."""
    per_cpu = sorted(m.decisions / m.cpu for m in measures)
    per_wall = sorted(m.decisions / m.wall for m in measures)
    middle = len(measures) // 2
    return {
        "decisions_per_cpu_second": per_cpu[middle],
        "low": per_cpu[0],
        "high": per_cpu[-1],
        "decisions_per_wall_second": per_wall[middle],
        "kib_per_world": measures[0].kib_per_world,
        "grown_mb": max(m.grown_mb for m in measures),
        "episodes": sum(m.episodes for m in measures),
    }
