"""Checkpoints of policies as opponents and competitors: which folder, on which track, and the clones of this package.

A checkpoint is a folder with `meta.json` and weights. What reads the weights is named, not imported: `LOADER`.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from scml_marl_env.config import EnvConfig
from scml_marl_env.policy import Policy, answers_by_row, config_of_policy, load_policy

LOADER = "algorithms.load:load"
CLONES = Path(__file__).parent / "clones"
"""Checkpoints of cloned competition agents, CLONES/<track>/<agent>/."""
CLONE = "-clone"
"""Ends the name of a clone: `penguin-clone` is in CLONES/std/penguin."""


def find_checkpoint(path: str | Path, track: str) -> Path:
    """The folder of a checkpoint, of which `path` is the folder or that of its run (whose newest one is taken).

    Raises:
        ValueError: if there is none, or it was made for the other track.
    """
    folder = Path(path).expanduser().resolve()
    if (folder / "checkpoints").is_dir():
        saved = sorted(each for each in (folder / "checkpoints").glob("update_*") if each.suffix == "")
        if not saved:
            raise ValueError(f"{folder} holds no finished checkpoint yet.")
        folder = saved[-1]
    made_for = about_checkpoint(folder)["env"].get("track")
    if made_for != track:
        raise ValueError(f"{folder} was trained on the {made_for} track and cannot play the {track} track.")
    return folder


def about_checkpoint(folder: Path) -> dict[str, Any]:
    """What `meta.json` says.

    Raises:
        ValueError: if there is none.
    """
    if not (folder / "meta.json").is_file():
        raise ValueError(f"{folder} is no checkpoint: it holds no meta.json.")
    return json.loads((folder / "meta.json").read_text())


def load_checkpoint(folder: Path) -> Policy:
    """The policy of a checkpoint, loaded once in a process while its weights stay the same."""
    return _load(str(folder), tuple(each.stat().st_mtime_ns for each in sorted(folder.iterdir())))


@lru_cache(maxsize=32)
def _load(folder: str, modified: tuple[int, ...]) -> Policy:
    return load_policy(LOADER, folder)


def clones(track: str) -> dict[str, Path]:
    """Name and folder of every clone that comes with the package."""
    found = sorted((CLONES / track).glob("*/meta.json"))
    return {meta.parent.name + CLONE: meta.parent for meta in found}


def clone(name: str, track: str) -> Path:
    """The folder of a clone.

    Raises:
        ValueError: if there is none of this name, with how to make one.
    """
    there = clones(track)
    if name not in there:
        raise ValueError(f"There is no clone {name!r} for the {track} track; {how_to_clone(track)}")
    return there[name]


def how_to_clone(track: str) -> str:
    """Which clones there are, and how to make another."""
    return (
        f"there are {', '.join(clones(track)) or 'none yet'}. Record a competition agent with experiments/collect.py, "
        "clone it with experiments/run.py --algo bc --data DATASET, and copy meta.json and weights.safetensors of the "
        f"checkpoint to {CLONES / track}/AGENT."
    )


def check_fast(folder: Path, config: EnvConfig) -> None:
    """Refuses a policy that cannot be an opponent on the fast engine in the worlds of `config`.

    What it may see and do follows from its own options, but the views of all factories have the slots and the history
    of the environment.

    Raises:
        ValueError: with what differs, or if its answers need its own earlier ones.
    """
    from scml_marl_env.layout import Layout  # compiles, which importing the package must not wait for

    policy = load_checkpoint(folder)
    own = config_of_policy(policy, config.track)
    layout = Layout(own)
    if not answers_by_row(policy, len(layout.observation_names), layout.grid.n_bounds):
        raise ValueError(f"The fast engine asks single windows, which {folder} cannot answer: use engine='scml'.")
    differ = [("slots", own.n_slots, config.n_slots)]
    if "history" in own.observation:
        differ.append(("history", own.history, config.history))
    for name, there, here in differ:
        if there != here:
            raise ValueError(
                f"{folder} was made for {name}={there}, and here is {name}={here}: on the fast engine both must be the "
                f"same. Make the environment with {name}={there}, or use engine='scml'."
            )
