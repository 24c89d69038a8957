"""Logs, schema `traj/2`: everything that happened to one factory in one world, as it happened.

A log is NAME.jsonl, one event a line, and NAME.0000.npz, NAME.0001.npz, ... beside it with the arrays of the windows.
It begins with `world_start`, whose fields hold for every line, and ends with `world_end`; one that was cut short ends
anywhere, and is readable up to there. Lines are only ever added, after the arrays that they refer to.

Each event has its name `ev` and the fields of `SCHEMA`. Days are absolute (`t`, `day`) and relative (`delta`); `thread`
is the slot of the partner. `ref` is [chunk, row] in the arrays of the chunk: of a window `state` and the `FactoryView`
(`view_ints` and so on), of a decision `observation` and `bounds`. Events stand before what they cause: a decision
before its contract, and the `reward` of a step before the window that ends it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.view import FactoryView

SCHEMA_NAME = "traj/2"
CHUNK = 1024
"""Decisions whose arrays and lines are held in memory before they are written."""

_INT, _NUMBER, _TEXT, _FLAG, _LIST, _DICT = (int,), (int, float), (str,), (bool,), (list,), (dict,)
_WHERE = {"day": _INT, "round": _INT}
_THREAD = {"thread": _INT, "partner": _TEXT, "role": _TEXT}
SCHEMA: dict[str, dict[str, tuple[type, ...]]] = {
    "world_start": {
        "v": _TEXT,  # SCHEMA_NAME
        "world": _TEXT,
        "agent": _TEXT,
        "agent_type": _TEXT,
        "factory": _INT,  # index in the world
        "level": _TEXT,  # first, middle or last
        "n_levels": _INT,
        "n_days": _INT,
        "n_lines": _INT,
        "unit_cost": _NUMBER,  # dollars
        "balance": _NUMBER,  # at the start
        "partners": _LIST,  # ids by slot: suppliers, then consumers
        "n_suppliers": _INT,
        "config": _DICT,  # of the features, the fields of an `EnvConfig`
    },
    "day_start": {
        "day": _INT,
        "balance": _NUMBER,
        "stock": _INT,
        "exogenous_in": _INT,
        "exogenous_in_cost": _NUMBER,
        "exogenous_out": _INT,
        "exogenous_out_revenue": _NUMBER,
        "storage_rate": _NUMBER,
        "disposal_rate": _NUMBER,
        "shortfall_rate": _NUMBER,
        "trading_price": _LIST,  # of input and output, as all pairs here
        "price_low": _LIST,
        "price_high": _LIST,
        "signed_in": _LIST,  # items by lead time
        "signed_out": _LIST,
        "signed_cost": _LIST,  # dollars by lead time
        "signed_revenue": _LIST,
    },
    "reward": {"reward": _NUMBER, "elapsed": _INT, "terminated": _FLAG, "truncated": _FLAG},  # of the last window
    "window": {**_WHERE, "together": _FLAG, "asked": _LIST, "ref": _LIST},
    "decision": {
        **_WHERE,
        **_THREAD,
        "op": _TEXT,  # end, accept or offer
        "valid": _FLAG,  # False: the protocol refuses the offer, which ends the negotiation
        "quantity": _INT,  # of the offer as sent, cut to whole numbers; 0 if it is none
        "delta": _INT,
        "t": _INT,
        "price": _INT,
        "sent": (list, type(None)),  # the offer as the agent gave it
        "offer": (list, type(None)),  # the partner's on the table: quantity, day, price
        "action": _INT,  # on the grid
        "ref": _LIST,
    },
    "contract": {"day": _INT, **_THREAD, "quantity": _INT, "delta": _INT, "t": _INT, "price": _INT},
    "neg_end": {"day": _INT, **_THREAD, "result": _TEXT},  # agreement or none
    "settle": {
        "day": _INT,
        "balance": _NUMBER,
        "profit": _NUMBER,
        "stock": _INT,
        "produced": _INT,
        "shortfall": _INT,
        "shortfall_penalty": _NUMBER,
        "storage_cost": _NUMBER,
        "disposal_cost": _NUMBER,
    },
    "bankrupt": {"day": _INT},
    "world_end": {
        "day": _INT,
        "score": _NUMBER,
        "balance": _NUMBER,
        "bankrupt": _FLAG,
        "windows": _INT,
        "decisions": _INT,
        "exceptions": _INT,
    },
}
"""Event -> field -> types of its JSON value."""


def check_event(event: Mapping[str, Any]) -> None:
    """Raises ValueError for an event that `SCHEMA` does not know as it is."""
    fields = SCHEMA.get(event.get("ev", ""))
    if fields is None:
        raise ValueError(f"There is no event {event.get('ev')!r} in {SCHEMA_NAME}.")
    if set(event) != {"ev", *fields}:
        raise ValueError(f"{event['ev']} has the fields {sorted(fields)}, got {sorted(set(event) - {'ev'})}.")
    for name, types in fields.items():
        if not isinstance(event[name], types) or (isinstance(event[name], bool) and bool not in types):
            raise ValueError(f"{event['ev']}: {name} is no {'/'.join(t.__name__ for t in types)}: {event[name]!r}.")


class Log:
    """Writes a log.

    Args:
        path: of the .jsonl file, which must not be there yet; its folder is made.
        window: an array of the shape and dtype of each that is kept of a window, by name.
        decision: likewise of a decision.
        n_slots: decisions that one window may have.

    Raises:
        FileExistsError: if there is such a log.
    """

    def __init__(
        self, path: Path, window: dict[str, np.ndarray], decision: dict[str, np.ndarray], n_slots: int
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.n_windows = self.n_decisions = 0
        self._file = open(path, "x", encoding="utf-8")  # noqa: SIM115 - it stays open
        self._lines: list[str] = []
        self._arrays = {
            name: np.zeros((CHUNK + n_slots, *like.shape), like.dtype) for name, like in (window | decision).items()
        }
        self._of_window, self._of_decision = tuple(window), tuple(decision)
        self._chunk = self._windows = self._decisions = 0

    def write(self, event: str, **fields: Any) -> None:
        """Adds an event."""
        self._lines.append(json.dumps({"ev": event, **fields}, separators=(",", ":")))

    def window(self, arrays: Mapping[str, np.ndarray]) -> list[int]:
        """Keeps the arrays of a window; returns its `ref`."""
        if self._decisions >= CHUNK:
            self.flush()
        for name in self._of_window:
            self._arrays[name][self._windows] = arrays[name]
        self._windows += 1
        self.n_windows += 1
        return [self._chunk, self._windows - 1]

    def decision(self, arrays: Mapping[str, np.ndarray]) -> list[int]:
        """Keeps the arrays of a decision of the last window; returns its `ref`."""
        for name in self._of_decision:
            self._arrays[name][self._decisions] = arrays[name]
        self._decisions += 1
        self.n_decisions += 1
        return [self._chunk, self._decisions - 1]

    def flush(self) -> None:
        """Writes what is held in memory: a new chunk of arrays, then the lines."""
        if self._windows:
            counts = dict.fromkeys(self._of_window, self._windows) | dict.fromkeys(self._of_decision, self._decisions)
            path = _chunk_path(self.path, self._chunk)
            partial = path.with_name(path.name + ".partial")
            with open(partial, "wb") as file:
                arrays: dict[str, Any] = {name: self._arrays[name][:n] for name, n in counts.items()}
                np.savez_compressed(file, **arrays)
            partial.rename(path)
            self._chunk, self._windows, self._decisions = self._chunk + 1, 0, 0
        self._file.write("".join(f"{line}\n" for line in self._lines))
        self._file.flush()
        self._lines.clear()

    def close(self) -> None:
        """Writes what is left."""
        self.flush()
        self._file.close()


class LogReader:
    """Reads a log, whole or cut short, with the arrays of one chunk in memory.

    Args:
        path: of the .jsonl file.

    Attributes:
        start: the `world_start` event.

    Raises:
        ValueError: if the file is no log of this schema.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._chunk: tuple[int, dict[str, np.ndarray]] = -1, {}
        self.start: dict[str, Any] = next(self.events(), {})
        if self.start.get("ev") != "world_start" or self.start.get("v") != SCHEMA_NAME:
            raise ValueError(f"{path} is no log of schema {SCHEMA_NAME}.")

    def events(self) -> Iterator[dict[str, Any]]:
        """Every event in order; a last line that was cut short is none."""
        with open(self.path, encoding="utf-8", newline="\n") as file:
            for line in file:
                if not line.endswith("\n"):
                    return
                yield json.loads(line)

    def array(self, name: str, ref: list[int]) -> np.ndarray:
        """The row of an array that a `ref` means."""
        chunk, row = ref
        if self._chunk[0] != chunk:
            with np.load(_chunk_path(self.path, chunk)) as arrays:
                self._chunk = chunk, dict(arrays)
        array: np.ndarray = self._chunk[1][name][row]
        return array

    def view(self, ref: list[int]) -> FactoryView:
        """What the factory knew at the window of a `ref`, before it answered; a view of one factory."""
        return FactoryView(*(self.array(f"view_{name}", ref)[None].copy() for name in FactoryView._fields))


def _chunk_path(path: Path, chunk: int) -> Path:
    return path.with_name(f"{path.stem}.{chunk:04d}.npz")
