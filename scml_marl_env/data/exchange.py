"""Export to and import from Minari, the exchange format of offline reinforcement learning (extra `minari`).

An episode of Minari is a slot of a recorded factory over its world, an agent of `ThreadEnv`: its observation is
{"observation": float32 (D,), "action_mask": int8 (A,)}, its actions are those of the grid, and its reward is what the
factory got until the slot's next decision. The last observation is empty. Masks make it some four times as large as
a dataset of ours: export the episodes that are wanted.

The infos of a decision hold everything else, so that an import gives back the exported dataset, array for array.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.actions import CAN_WAIT
from scml_marl_env.data.dataset import ARRAYS, Dataset, DatasetWriter
from scml_marl_env.features import LIMIT

_KEY = "scml_marl_env"
_OF_STEP = tuple(name for name, array in ARRAYS.items() if array.per == "step" and name != "first_decision")
_OF_DECISION = ("bounds", "raw")


def export_minari(data: Dataset, dataset_id: str, episodes: Iterable[int] | None = None) -> Any:
    """Writes episodes of a dataset into Minari's folder (`MINARI_DATASETS_PATH`).

    Args:
        data: the dataset.
        dataset_id: in Minari, such as "scml/std/experts-v0".
        episodes: which, all by default.

    Returns:
        The `MinariDataset`.

    Raises:
        ModuleNotFoundError: if minari is not installed, with the command that does it.
    """
    minari = _minari()
    from gymnasium.spaces import Box, Dict, Discrete

    grid, width = data.grid, len(data.observation_names)
    chosen = range(data.n_episodes) if episodes is None else list(episodes)
    space = Dict({
        "observation": Box(-LIMIT, LIMIT, (width,), np.float32),
        "action_mask": Box(0, 1, (grid.n_actions,), np.int8),
    })  # fmt: skip
    made = minari.create_dataset_from_buffers(
        dataset_id,
        _buffers(data, chosen),
        observation_space=space,
        action_space=Discrete(grid.n_actions),
        algorithm_name=", ".join(data.experts),
        description="Negotiation threads of SCML factories; an episode is one partner of one factory over one world.",
        requirements=[f"scml_marl_env=={data.manifest['versions']['scml_marl_env']}"],
        data_format="arrow",
        jpeg_encoding=False,
    )
    about = {name: data.manifest[name] for name in ("config", "experts", "about")}
    made.storage.update_metadata({_KEY: json.dumps(about)})
    return made


def import_minari(made: Any, folder: str | Path) -> Dataset:
    """Makes a dataset of a `MinariDataset` that `export_minari` wrote, here or elsewhere.

    Raises:
        ValueError: if it was not.
    """
    metadata = made.storage.metadata
    if _KEY not in metadata:
        raise ValueError(f"{metadata.get('dataset_id')} was not exported by scml_marl_env: its decisions lack bounds.")
    about = json.loads(metadata[_KEY])
    with DatasetWriter(folder, Dataset.config_in(about), about["experts"], about["about"]) as writer:
        for options, slots in _by_episode(made.storage):
            writer.episode(_merged(slots), **options)
    return Dataset(folder)


def _buffers(data: Dataset, episodes: Iterable[int]) -> Iterator[Any]:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    for p in episodes:
        steps, about = data.episode(p), data.about(p)
        step_of = np.repeat(np.arange(len(steps["answers"])), steps["answers"])
        totals = np.concatenate([[0.0], np.cumsum(steps["reward"], dtype=np.float64)])
        for slot in np.unique(steps["slot"]):
            rows = np.flatnonzero(steps["slot"] == slot)
            at = step_of[rows]
            following = np.append(at[1:], len(steps["answers"]))
            infos = {name: steps[name][at] for name in _OF_STEP} | {name: steps[name][rows] for name in _OF_DECISION}
            bounds = np.concatenate([steps["bounds"][rows], np.zeros_like(steps["bounds"][:1])])
            bounds[-1, CAN_WAIT] = 1
            ends = np.arange(len(rows)) == len(rows) - 1
            # as columns: Minari 0.5.4 writes infos of one dimension to arrow, and cannot read them
            infos = {name: array.reshape(len(rows), -1) for name, array in (infos | {"step": at}).items()}
            yield EpisodeBuffer(
                seed=about["world_seed"],
                options={"episode": int(p), "slot": int(slot), "about": about},
                observations={
                    "observation": _padded(steps["observation"][rows]),
                    "action_mask": data.grid.mask(bounds).astype(np.int8),
                },
                actions=steps["action"][rows].astype(np.int64),
                rewards=list(totals[following] - totals[at]),
                terminations=list(ends & bool(steps["terminated"][-1])),
                truncations=list(ends & bool(steps["truncated"][-1])),
                infos={name: _padded(array) for name, array in infos.items()},
            )


def _by_episode(storage: Any) -> Iterator[tuple[dict[str, Any], list[tuple[int, dict[str, Any]]]]]:
    """(what is said of a factory's episode, its slots with their Minari episodes), in the order of the export."""
    slots: list[tuple[int, dict[str, Any]]] = []
    options: dict[str, Any] = {}
    for index in range(storage.total_episodes):
        (metadata,) = storage.get_episode_metadata([index])
        if slots and metadata["options"]["episode"] != options["episode"]:
            yield options["about"], slots
            slots = []
        options = metadata["options"]
        (episode,) = storage.get_episodes([index])
        slots.append((options["slot"], episode))
    if slots:
        yield options["about"], slots


def _merged(slots: list[tuple[int, dict[str, Any]]]) -> dict[str, np.ndarray]:
    """The episode of a factory, from those of its slots."""
    counts = [len(episode["actions"]) for _, episode in slots]

    def joined(pick: Any) -> np.ndarray:
        return np.concatenate([np.asarray(pick(e))[:n] for (_, e), n in zip(slots, counts, strict=True)])

    step, slot = joined(lambda e: e["infos"]["step"])[:, 0], np.repeat([k for k, _ in slots], counts)
    order = np.lexsort((slot, step))
    first = np.unique(step[order], return_index=True)[1]
    steps = {name: joined(lambda e, name=name: e["infos"][name])[order] for name in (*_OF_STEP, *_OF_DECISION)}
    steps = {name: array[first] if name in _OF_STEP else array for name, array in steps.items()}
    return {
        **{name: array if ARRAYS[name].width else array[:, 0] for name, array in steps.items()},
        "observation": joined(lambda e: e["observations"]["observation"])[order],
        "action": joined(lambda e: e["actions"])[order].astype(np.int32),
        "slot": slot[order].astype(np.int16),
        "answers": np.diff(np.append(first, len(order))),
    }


def _padded(rows: np.ndarray) -> np.ndarray:
    """One more row of zeros: Minari has an observation, and infos, after the last action."""
    return np.concatenate([rows, np.zeros_like(rows[:1])])


def _minari() -> Any:
    try:
        import minari
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Minari is missing: pip install 'scml_marl_env[minari]'") from error
    return minari
