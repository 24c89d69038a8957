"""Named pools of SCML agents for the factories that the environment does not control.

`opponents=` of an environment takes a name of `names(track)`, an agent class, the import path of one
("package.module:Class"), a trained policy as "checkpoint:FOLDER" or the path of that folder (of a checkpoint, or of a
run), or a mix as {name, path or class: weight}. Each factory draws its opponent by weight; the member `default` of a
mix keeps the default agent that the official generator drew there.
"""

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scml_marl_env import champions, checkpoints
from scml_marl_env.config import EnvConfig

DEFAULT = "default"
CHAMPIONS = "champions"
CLONED = "champions-cloned"
CHECKPOINT = "checkpoint:"
"""Begins the path of a policy: "checkpoint:" and the folder."""

PRUDENT = "scml_marl_env.prudent:PrudentAgent"
VARIANTS: dict[str, dict[str, float]] = {
    "prudent-patient": {"exponent": 12.0, "accept_buy": 12.0, "accept_sell": 12.0},
    "prudent-eager": {"exponent": 0.5, "accept_buy": 1.0, "accept_sell": 1.0},
    "prudent-bold": {"over_buy": 0.5, "over_sell": 0.5},
    "prudent-lean": {"theta": 0.5},
    "prudent-stocked": {"theta": 2.0},
}
"""Options of `PrudentAgent` in which each variant of it differs: when it concedes, what it offers beyond what it needs
and covers, and the stock that it aims at. Their spread makes data and opponents diverse."""
_VARIANT_PATHS = {
    name: "scml_marl_env.prudent:" + "".join(part.capitalize() for part in name.split("-")) for name in VARIANTS
}

_STD, _ONESHOT = "scml.std.agents", "scml.oneshot.agents"
BUILT_IN: dict[str, dict[str, str]] = {
    "std": {
        "greedy": f"{_STD}.greedy:GreedyStdAgent",
        "random": f"{_STD}.rand:RandomStdAgent",
        "sync-random": f"{_STD}.rand:SyncRandomStdAgent",
        "nothing": f"{_ONESHOT}.nothing:OneshotDoNothingAgent",
        "prudent": PRUDENT,
        **_VARIANT_PATHS,
    },
    "oneshot": {
        "greedy": f"{_ONESHOT}.greedy:GreedyOneShotAgent",
        "greedy-sync": f"{_ONESHOT}.greedy:GreedySyncAgent",
        "random": f"{_ONESHOT}.rand:RandomOneShotAgent",
        "sync-random": f"{_ONESHOT}.rand:SyncRandomOneShotAgent",
        "rand-dist": f"{_ONESHOT}.rand:RandDistOneShotAgent",
        "equal-dist": f"{_ONESHOT}.rand:EqualDistOneShotAgent",
        "nothing": f"{_ONESHOT}.nothing:OneshotDoNothingAgent",
        "prudent": PRUDENT,
        **_VARIANT_PATHS,
    },
}
"""The generator's default agents, the other agents that come with scml, and our own, by track."""
DEFAULTS = {"std": ("greedy", "random", "sync-random"), "oneshot": ("greedy", "rand-dist", "equal-dist")}
"""The default agents of the official generator, in its order."""
_COMPILED: dict[str, dict[str, str]] = {
    "std": {
        "greedy": "GREEDY_STD",
        "random": "RANDOM_STD",
        "sync-random": "SYNC_RANDOM_STD",
        "nothing": "NOTHING",
        "prudent": "PRUDENT",
        **dict.fromkeys(VARIANTS, "PRUDENT"),
    },
    "oneshot": {
        "greedy": "GREEDY_ONESHOT",
        "random": "RANDOM_ONESHOT",
        "sync-random": "RAND_DIST",  # which only gives the same agent another name
        "rand-dist": "RAND_DIST",
        "equal-dist": "EQUAL_DIST",
        "nothing": "NOTHING",
        "prudent": "PRUDENT",
        **dict.fromkeys(VARIANTS, "PRUDENT"),
    },
}  # names of the values of `columns.POLICY`


def names(track: str) -> list[str]:
    """Every opponent name of a track."""
    clones = checkpoints.clones(track)
    return [DEFAULT, *BUILT_IN[track], CHAMPIONS, *champions.names(track), CLONED, *clones]


def pool(spec: Any, track: str, year: int) -> dict[str, float]:
    """{import path of an agent class, "checkpoint:FOLDER", or `default`: weight}, weights summing to 1.

    Raises:
        ValueError: for an unknown name, a weight that is not a positive number, or a checkpoint of the other track.
        TypeError: for something that is neither a name, nor an SCML agent class, nor a mix of them.
        ModuleNotFoundError: for a champion while `scml-agents` is not installed.
    """
    mix = spec if isinstance(spec, Mapping) else {spec: 1.0} if _hashable(spec) else _refuse(spec)
    if not mix:
        raise ValueError("An opponent mix needs at least one member.")
    weights: dict[str, float] = {}
    for member, weight in mix.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 < weight < float("inf"):
            raise ValueError(f"The weight of opponent {member!r} must be a positive number, got {weight!r}.")
        paths = _paths(member, track, year)
        for path in paths:
            weights[path] = weights.get(path, 0.0) + weight / len(paths)
    total = sum(weights.values())
    return {path: weight / total for path, weight in weights.items()}


def compiled_policy(path: str, track: str) -> int | None:
    """The value of `columns.POLICY` that plays like the agent of an import path in the fast engine, or None."""
    from scml_marl_env.world.fast import columns

    plain = path.replace(":", ".")
    for name, policy in _COMPILED[track].items():
        if BUILT_IN[track][name].replace(":", ".") == plain:
            return getattr(columns, policy)
    return None


def variant_of(path: str | None) -> dict[str, float]:
    """The options in which the agent of an import path differs from `PrudentAgent`; none if it is no variant."""
    for name, variant in _VARIANT_PATHS.items():
        if path is not None and path.replace(":", ".") == variant.replace(":", "."):
            return VARIANTS[name]
    return {}


def check_compiled(paths: Iterable[str], config: EnvConfig) -> None:
    """Refuses opponents that the fast engine cannot play in the worlds of a config; `default` it always can.

    Raises:
        ValueError: for an agent without a compiled twin, with those that have one, or a policy that does not fit.
    """
    for path in paths:
        folder = checkpoint_of(path)
        if folder is not None:
            checkpoints.check_fast(folder, config)
        elif path != DEFAULT and compiled_policy(path, config.track) is None:
            there = ", ".join([DEFAULT, *_COMPILED[config.track]])
            raise ValueError(
                f"The fast engine has no twin of opponent {path!r}: use engine='scml', or opponents of "
                f"the {config.track} track that it plays: {there}, or policies (checkpoint:FOLDER)."
            )


def checkpoint_of(path: str | None) -> Path | None:
    """The folder of the policy that a path of `pool` names, None if it is an agent class."""
    return Path(path.removeprefix(CHECKPOINT)) if path is not None and path.startswith(CHECKPOINT) else None


def load(path: str) -> type:
    """The agent class of an import path "package.module:Class" (or "package.module.Class").

    Raises:
        ValueError: if there is no such class.
        TypeError: if it is not an SCML std or oneshot agent.
    """
    module_name, _, class_name = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        agent: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            agent = getattr(agent, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"Cannot import opponent {path!r}: {error}. Use 'package.module:Class'.") from error
    _check_class(agent)
    return agent


def _paths(member: Any, track: str, year: int) -> list[str]:
    if isinstance(member, type):
        _check_class(member)
        if "<locals>" in member.__qualname__:
            raise ValueError(f"Opponent {member.__qualname__} must be importable: define it at the top of a module.")
        return [f"{member.__module__}:{member.__qualname__}"]
    if not isinstance(member, str):
        _refuse(member)
    if member == DEFAULT:
        return [DEFAULT]
    if member in BUILT_IN[track]:
        return [BUILT_IN[track][member]]
    if member == CHAMPIONS:
        return [_installed(champion) for champion in champions.pool(track, year)]
    if member in champions.names(track):
        return [_installed(champions.named(member, track))]
    if member == CLONED:
        folders = checkpoints.clones(track).values()
        if not folders:
            raise ValueError(f"The pool {CLONED!r} is empty: of clones {checkpoints.how_to_clone(track)}")
        return [f"{CHECKPOINT}{folder}" for folder in folders]
    if member.endswith(checkpoints.CLONE):
        return [f"{CHECKPOINT}{checkpoints.clone(member, track)}"]
    if member.startswith(CHECKPOINT) or "/" in member or Path(member).is_dir():
        return [f"{CHECKPOINT}{checkpoints.find_checkpoint(member.removeprefix(CHECKPOINT), track)}"]
    if ":" in member or "." in member:
        if member in BUILT_IN[track].values():
            return [member]
        agent = load(member)
        defined = f"{agent.__module__}:{agent.__qualname__}"  # another module may export it as well
        return [defined if defined in BUILT_IN[track].values() else member]
    close = difflib.get_close_matches(member, names(track), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names(track))}."
    raise ValueError(
        f"No opponent {member!r} for the {track} track; {hint} Or pass a class, 'package.module:Class' or "
        "'checkpoint:FOLDER'."
    )


def _installed(champion: champions.Champion) -> str:
    champions.check_installed(champion)
    return champion.path


def _check_class(agent: Any) -> None:
    from scml.oneshot.agent import OneShotAgent

    if not isinstance(agent, type) or not issubclass(agent, OneShotAgent):
        raise TypeError(f"An opponent must be a StdAgent or OneShotAgent class of scml, got {agent!r}.")


def _hashable(spec: Any) -> bool:
    return isinstance(spec, (str, type))


def _refuse(spec: Any) -> Any:
    raise TypeError(
        "opponents must be a name, an SCML agent class, an import path, or a {...: weight} mix of them, got "
        f"{spec!r}."
    )
