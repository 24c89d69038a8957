"""EnvConfig: everything that decides what an environment is. One frozen dataclass; ids differ by config only."""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

TRACKS = ("std", "oneshot")
ENGINES = ("scml", "fast")
REWARDS = ("profit", "potential")
SHIELDS = ("off", "feasible", "covered")
INVENTORIES = ("simulator", "conserving")
RENDER_MODES = (None, "ansi", "rgb_array")
OBSERVATION_PARTS = ("thread", "history", "broadcast", "macro")
MASK_PLACES = ("both", "observation")
LEVEL_NAMES = ("first", "middle", "last")


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """One kind of SCML world, who plays in it, and what its agents see, may do and earn.

    Every default is here and makes a valid environment. Ranges are inclusive (low, high) pairs, drawn anew for each
    world by SCML's own generator.
    """

    track: str = "std"
    """`std` (futures up to 10 days ahead, stock) or `oneshot` (delivery today only, nothing keeps)"""
    year: int = 2025
    """whose competition agents `opponents="champions"` are: 2024, 2025 or 2026; the rules are the same"""
    engine: str = "scml"
    """`scml`: the official simulator, with any SCML agent as opponent, or `fast`: a compiled engine that plays the same
    worlds by the same rules, with those opponents that have a compiled twin"""
    controlled: int | str = 1
    """number of factories that the environment's agents run, or `all` (self-play)"""
    level: int | str | tuple[int | str, ...] | None = None
    """production level of the controlled factory: 0 is the first, -1 the last, or `first`, `middle`, `last`; a tuple
    gives     one for each controlled factory; None draws one evenly for each world"""
    opponents: Any = "default"
    """who plays the other factories: a name (see `scml_marl_env.opponents`), an SCML agent class or its import path, or
    a     mix as {name or class: weight}; `default` leaves the generator's own default agents where it put them"""
    bank: str | None = None
    """folder of prepared worlds made by `python -m scml_marl_env.world.bank`, one of which a seed chooses; None draws
    every world anew by SCML's generator"""
    days: int | tuple[int, int] = (50, 200)
    """simulated days of an episode"""
    processes: int | tuple[int, int] = (2, 4)
    """production levels"""
    factories_per_level: int | tuple[int, int] | None = None
    """factories on each level; None lets the official generator place 4 to 6"""
    rounds: int = 20
    """rounds of a negotiation, each at most one offer of either side"""
    reward: str = "profit"
    """`profit`: balance change over the initial balance, or `potential`: the same plus a potential-based shaping by the
    value of the stock"""
    discount: float = 0.99
    """discount per day of the shaping potential; use the learner's"""
    shield: str = "feasible"
    """strength of L1: `off`, `feasible` or `covered`"""
    useful: bool = False
    """also mask purchases that the lines can no longer process before the end"""
    observation: tuple[str, ...] = ("thread", "history", "broadcast")
    """parts of an agent's observation, in this order: any of `thread`, `history`, `broadcast`, `macro`"""
    history: int = 5
    """offers of a thread that are kept in its history"""
    slots: int | None = None
    """threads of a factory (K); None is the most partners that the world can have"""
    price_levels: int | None = None
    """price levels of the action grid; None is 20 for std and 2 for oneshot, enough for every distinct price"""
    inventory: str = "simulator"
    """`simulator`: as SCML does it, production never consumes stock; `conserving`: it does"""
    privileged_state: bool = False
    """add to `state()` what only a trainer may know (stock, balances and commitments of all factories)"""
    audit: bool = False
    """count unsafe answers (L1's U1 and U2, chosen and executed) of every window in `statistics()["unsafe"]`"""
    max_cycles: int | None = None
    """steps (windows) after which the episode is truncated; None plays to the end"""
    mask_in: str = "both"
    """where `ThreadEnv` puts the action mask: `both` observation and info, or `observation` only, as TorchRL's wrapper
    needs     it (it fails on a mask that stands in both beside other infos)"""
    strict: bool = False
    """raise on an action that the mask forbids instead of replacing and counting it"""
    render_mode: str | None = None
    """None, `ansi` (a table of the day) or `rgb_array` (a picture of it)"""

    def __post_init__(self) -> None:
        _choice(self, "track", TRACKS)
        _choice(self, "engine", ENGINES)
        _choice(self, "reward", REWARDS)
        _choice(self, "shield", SHIELDS)
        _choice(self, "inventory", INVENTORIES)
        _choice(self, "render_mode", RENDER_MODES)
        _choice(self, "mask_in", MASK_PLACES)
        _choice(self, "year", (2024, 2025, 2026))
        _whole(self, "rounds", 1)
        _whole(self, "history", 0)
        for name in ("slots", "max_cycles", "price_levels"):
            if getattr(self, name) is not None:
                _whole(self, name, 1)
        for name in ("useful", "privileged_state", "audit", "strict"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if self.bank is not None and (not isinstance(self.bank, str) or not self.bank):
            raise ValueError(f"bank must be the path of a folder as a string, or None, got {self.bank!r}.")
        _range(self, "days", 1)
        _range(self, "processes", 2)
        if self.factories_per_level is not None:
            _range(self, "factories_per_level", 1)
        if self.track == "oneshot" and self.processes_range != (2, 2):
            raise ValueError(f"The oneshot track has 2 processes, got processes={self.processes!r}.")
        if self.track == "oneshot" and self.inventory == "conserving":
            raise ValueError("inventory='conserving' concerns stock, and oneshot keeps none: use track='std'.")
        if self.days_range[0] <= self.processes_range[1]:
            raise ValueError(
                f"SCML needs more days than processes: got days={self.days!r} with processes={self.processes!r}."
            )
        if not isinstance(self.discount, (int, float)) or not 0 <= self.discount <= 1:  # also refuses nan
            raise ValueError(f"discount must be between 0 and 1, got {self.discount!r}.")
        self._check_controlled()
        self._check_observation()

    @property
    def days_range(self) -> tuple[int, int]:
        return _pair(self.days)

    @property
    def processes_range(self) -> tuple[int, int]:
        return _pair(self.processes)

    @property
    def factories_range(self) -> tuple[int, int]:
        """Factories of a level; the official generator's own range is 4 to 6."""
        return (4, 6) if self.factories_per_level is None else _pair(self.factories_per_level)

    @property
    def horizon(self) -> int:
        """H, the largest lead time in days."""
        return 10 if self.track == "std" else 0

    @property
    def n_lines(self) -> int:
        """n, items that a factory can make a day."""
        return 10

    @property
    def max_quantity(self) -> int:
        """The largest quantity of an agenda."""
        return 3 * self.n_lines if self.track == "std" else self.n_lines

    @property
    def n_price_levels(self) -> int:
        return self.price_levels or (20 if self.track == "std" else 2)

    @property
    def max_partners(self) -> int:
        """The most partners that a factory can have: both neighbouring levels, if there are three levels or more."""
        sides = 1 if self.processes_range[1] == 2 else 2
        return sides * self.factories_range[1]

    @property
    def n_slots(self) -> int:
        """K, threads of a factory."""
        return self.slots or self.max_partners

    @property
    def n_controlled(self) -> int:
        """F, controlled factories. With `all` it is the most that a world can have."""
        if self.controlled == "all":
            return self.processes_range[1] * self.factories_range[1]
        return int(self.controlled)

    def levels(self, n_processes: int) -> list[int | None]:
        """The wanted level of each controlled factory in a world of `n_processes`, None where it is drawn."""
        wanted = self.level if isinstance(self.level, tuple) else (self.level,) * self.n_controlled
        return [_level(item, n_processes) for item in wanted]

    def _check_controlled(self) -> None:
        if self.slots is not None and self.slots < self.max_partners:
            raise ValueError(
                f"slots={self.slots}, but a factory of these worlds can have {self.max_partners} partners: "
                "raise slots or lower factories_per_level."
            )
        if self.controlled == "all":
            if self.level is not None:
                raise ValueError("controlled='all' runs every level: leave level=None.")
            return
        _whole(self, "controlled", 1)
        if self.n_controlled > self.processes_range[0] * self.factories_range[0]:
            raise ValueError(
                f"controlled={self.controlled} factories, but the smallest world that these options allow has "
                f"{self.processes_range[0] * self.factories_range[0]}: raise processes or factories_per_level, "
                "or pass controlled='all'."
            )
        if isinstance(self.level, tuple) and len(self.level) != self.n_controlled:
            raise ValueError(f"level={self.level!r} names {len(self.level)} levels for controlled={self.controlled}.")
        for n_processes in range(self.processes_range[0], self.processes_range[1] + 1):
            levels = [level for level in self.levels(n_processes) if level is not None]
            for level in set(levels):
                if levels.count(level) > self.factories_range[0]:
                    raise ValueError(
                        f"{levels.count(level)} controlled factories on level {level}, but a level may have only "
                        f"{self.factories_range[0]} factories: spread them, or raise factories_per_level."
                    )

    def _check_observation(self) -> None:
        parts = self.observation
        if not isinstance(parts, tuple) or not parts or len(set(parts)) != len(parts):
            raise ValueError(f"observation must be a tuple of different parts, got {parts!r}.")
        for part in parts:
            if part not in OBSERVATION_PARTS:
                raise ValueError(f"Unknown observation part {part!r}{_nearest(part, OBSERVATION_PARTS)}")
        if "history" in parts and self.history == 0:
            raise ValueError("observation has the part 'history', but history=0 keeps no offers.")


def check_options(options: Mapping[str, Any]) -> None:
    """Raises TypeError for a name that is no option of `EnvConfig`, with the nearest one."""
    known = [field.name for field in fields(EnvConfig)]
    for name in options:
        if name not in known:
            raise TypeError(f"Unknown option {name!r}{_nearest(name, known)}")


def read_options(texts: Iterable[str]) -> dict[str, Any]:
    """Options as a command line gives them, "key=value", the values read as JSON where they are JSON.

    Raises:
        ValueError: for a text without a key.
    """
    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"Options are written key=value, got {text!r}.")
        try:
            options[key] = json.loads(value)
        except json.JSONDecodeError:
            options[key] = value
    return options


def _nearest(word: Any, known: Any) -> str:
    names = [str(item) for item in known]
    close = difflib.get_close_matches(str(word), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(names)}."


def _choice(config: EnvConfig, name: str, allowed: tuple) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or value not in allowed:
        raise ValueError(f"Unknown {name} {value!r}{_nearest(value, allowed)}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(config: EnvConfig, name: str, low: int) -> None:
    value = getattr(config, name)
    if not _is_whole(value) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _range(config: EnvConfig, name: str, low: int) -> None:
    value = getattr(config, name)
    pair = (value, value) if _is_whole(value) else value
    fine = isinstance(pair, tuple) and len(pair) == 2 and all(_is_whole(item) for item in pair)
    if not fine or not low <= pair[0] <= pair[1]:
        raise ValueError(
            f"{name} must be a whole number of at least {low}, or a (low, high) pair of them, got {value!r}."
        )


def level_name(level: int, last: bool) -> str:
    """One of `LEVEL_NAMES` for a factory's level, 0 being the first; a world of one level has only a first."""
    return "first" if level == 0 else "last" if last else "middle"


def _level(item: Any, n_processes: int) -> int | None:
    if item is None:
        return None
    if isinstance(item, str):
        if item not in LEVEL_NAMES:
            raise ValueError(f"Unknown level {item!r}{_nearest(item, LEVEL_NAMES)}")
        if item == "middle" and n_processes < 3:
            raise ValueError("level='middle' needs at least 3 processes: pass processes=3, 4 or (3, 4).")
        return {"first": 0, "middle": n_processes // 2, "last": n_processes - 1}[item]
    if not _is_whole(item) or not -n_processes <= item < n_processes:
        raise ValueError(
            f"level {item!r} does not exist in a world of {n_processes} processes (0..{n_processes - 1}, or negative "
            "from the last): restrict `processes` to worlds that have it."
        )
    return item % n_processes
