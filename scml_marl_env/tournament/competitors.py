"""Who competes: names, import paths and checkpoints, made into something that a worker process can construct."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scml_marl_env import champions, checkpoints, opponents
from scml_marl_env.config import SHIELDS

POLICY_AGENT = "scml_marl_env.policy_agent:PolicyAgent"


@dataclass(frozen=True, kw_only=True)
class Competitor:
    """One entry of a tournament.

    Attributes:
        name: in every table.
        path: import path of its SCML agent class.
        params: keyword arguments of the class (JSON).
        shield: "feasible" or "covered" for an agent behind the external shield (`audit.shield`), else None.
    """

    name: str
    path: str
    params: dict[str, Any] = field(default_factory=dict)
    shield: str | None = None


def competitors(specs: Iterable[str], track: str) -> tuple[Competitor, ...]:
    """Reads a list of competitors.

    Args:
        specs: each a name (an opponent of `scml_marl_env.opponents`, a competition agent of `scml_marl_env.champions`,
            or the clone of one), an import path "package.module:Class", the folder of a checkpoint or of a run (its
            newest checkpoint), or one of these behind "label=", which then is its name. "+feasible" or "+covered" at
            the end puts the agent behind the external shield of that strength.
        track: of the worlds, "std" or "oneshot".

    Raises:
        ValueError: for an unknown name, two competitors of one name, none at all, or a checkpoint of the other track.
        ModuleNotFoundError: for a competition agent whose packages are not installed, with the command that does it.
    """
    found = [_competitor(spec.strip(), track) for spec in specs if spec.strip()]
    if not found:
        raise ValueError("A tournament needs at least one competitor: names, import paths or folders of checkpoints.")
    names = [each.name for each in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"Two competitors are called {name!r}; tell them apart with label=..., such as a={name}.")
    return tuple(found)


def _competitor(spec: str, track: str) -> Competitor:
    label, _, what = spec.rpartition("=")
    what, plus, strength = what.partition("+")
    if plus:
        if strength not in SHIELDS[1:]:
            raise ValueError(f"{spec!r}: after the + stands a shield, {' or '.join(SHIELDS[1:])}, not {strength!r}.")
        bare = _competitor(what, track)
        return replace(bare, name=label or f"{bare.name}+{strength}", shield=strength)
    folder = Path(what).expanduser()
    if folder.is_dir():
        return _checkpoint(label, folder, track)
    if "/" in what:
        raise ValueError(f"There is no folder {what!r}; a checkpoint is a folder with meta.json and weights.")
    if what in (opponents.DEFAULT, opponents.CHAMPIONS, opponents.CLONED):
        raise ValueError(f"{what!r} is a pool, not an agent; name its members: {', '.join(champions.names(track))}.")
    if what.endswith(checkpoints.CLONE):
        return _checkpoint(label or what, checkpoints.clone(what, track), track)
    if what in champions.names(track):
        champion = champions.named(what, track)
        champions.check_installed(champion)
        return Competitor(name=label or what, path=champion.path)
    ((path, _),) = opponents.pool(what, track, 2025).items()
    opponents.load(path)
    return Competitor(name=label or what.rpartition(":")[2].rpartition(".")[2], path=path)


def _checkpoint(label: str, path: Path, track: str) -> Competitor:
    folder = checkpoints.find_checkpoint(path, track)
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
    params = {"policy": checkpoints.LOADER, "path": str(folder)}
    return Competitor(name=label or run.name, path=POLICY_AGENT, params=params)
