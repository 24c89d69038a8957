"""Writes a trained policy as an entry of an SCML competition.   python experiments/export.py RUN OUT.zip --name MyAgent

RUN is the folder of a run (its newest checkpoint is taken) or of a checkpoint. The zip holds

    my_agent.py        a class MyAgent without arguments, also as MAIN_AGENT
    policy/            the weights and what describes them
    requirements.txt   what it needs beside scml
    scml_marl_env/, algorithms/   the files of ours that it needs to decide; nothing that trains

and is played where it is unpacked: `from my_agent import MyAgent`. The first decision of a process compiles for about a
minute where numba has nothing in its cache yet; it is kept beside the files, or in the user's cache.
"""

import ast
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tyro
from settings import load_policy

ROOT = Path(__file__).resolve().parents[1]
LOAD = "algorithms.load:load"
START = ("scml_marl_env.policy_agent", "algorithms.load")
PACKAGES = ("scml_marl_env", "algorithms")
NEEDS = ("numpy", "numba", "torch", "safetensors")

AGENT = '''"""{name} plays the {track} track. Trained with scml_marl_env, written by its experiments/export.py."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # what the agent needs of scml_marl_env lies beside it

from scml_marl_env.policy_agent import PolicyAgent  # noqa: E402

__all__ = ["{name}"]


class {name}(PolicyAgent):
    """Plays the {track} track with the policy beside this file."""

    def __init__(self, *args, **kwargs):
        chosen = {{"policy": "{load}", "path": str(HERE / "policy"), "greedy": {greedy}, "seed": {seed}}}
        super().__init__(*args, **chosen | kwargs)


MAIN_AGENT = {name}
'''


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What is written."""

    run: tyro.conf.Positional[Path]
    """folder of a run or of a checkpoint"""
    out: tyro.conf.Positional[Path]
    """the zip; replaced if it exists"""
    name: str = "TrainedAgent"
    """of the class; its module is the same name in small letters, words apart"""
    greedy: bool = False
    """the most probable actions instead of drawn ones"""
    seed: int = 0
    """of the draws"""


def main(argv: list[str] | None = None) -> int:
    """Writes the zip."""
    config = tyro.cli(ExportConfig, args=argv, description=__doc__)
    if not re.fullmatch(r"[A-Z][A-Za-z0-9]*", config.name):
        raise SystemExit(
            f"The agent's name must be a class name such as MyAgent (SCML takes no _), got {config.name!r}."
        )
    policy, folder = load_policy(config.run)
    if policy.config["env"].get("track") not in ("std", "oneshot"):
        raise SystemExit(f"{folder} was trained on {policy.config['env']}, and SCML plays only std and oneshot.")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    files = dict(contents(config, folder, policy.config["env"]["track"]))
    with zipfile.ZipFile(config.out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    size = config.out.stat().st_size / 1024
    print(
        f"{config.out}: {module_name(config.name)}.py with {config.name}, {len(files)} files, {size:.0f} KiB; {folder}"
    )
    return 0


def contents(config: ExportConfig, checkpoint: Path, track: str) -> Iterator[tuple[str, bytes]]:
    """Yields (name in the zip, bytes)."""
    source = AGENT.format(name=config.name, track=track, load=LOAD, greedy=config.greedy, seed=config.seed)
    yield f"{module_name(config.name)}.py", source.encode()
    yield "requirements.txt", "".join(f"{package}>={version(package).split('+')[0]}\n" for package in NEEDS).encode()
    for name in ("meta.json", "weights.safetensors"):
        yield f"policy/{name}", (checkpoint / name).read_bytes()
    for package in PACKAGES:
        yield f"{package}/__init__.py", b'"""The part of this package that an exported agent needs."""\n'
    for module in sorted(needed(START)):
        path = path_of(module)
        if module not in PACKAGES and path is not None:
            yield str(path.relative_to(ROOT)), path.read_bytes()
    yield "LICENSE", (ROOT / "LICENSE").read_bytes()


def needed(modules: tuple[str, ...]) -> set[str]:
    """Our modules that `modules` import, directly or not, wherever in a file, but not by the roots of packages."""
    found: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        path = path_of(module)
        if module in found or path is None:
            continue
        found.add(module)
        todo += parents(module)
        if module in PACKAGES:  # the zip has its own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def parents(module: str) -> list[str]:
    """The packages that a module lies in."""
    words = module.split(".")
    return [".".join(words[:n]) for n in range(1, len(words))]


def path_of(module: str) -> Path | None:
    """The file of one of our modules, None for others."""
    if module.partition(".")[0] not in PACKAGES:
        return None
    base = ROOT.joinpath(*module.split("."))
    found = [path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()]
    return found[0] if found else None


def module_name(name: str) -> str:
    """my_agent for MyAgent."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


if __name__ == "__main__":
    raise SystemExit(main())
