"""Where and with what a result was made; every file under experiments/results holds it."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("scml_marl_env", "scml", "negmas", "scml-agents", "numpy", "numba", "greenlet", "torch")


def command_of(script: str, argv: Iterable[str] | None) -> str:
    """What to type to run `script` of this folder again; without `argv`, with the arguments of this process."""
    return shlex.join(["python", f"experiments/{Path(script).name}", *(sys.argv[1:] if argv is None else argv)])


def about(script: str, argv: Iterable[str] | None) -> dict[str, Any]:
    """The command (see `command_of`), the machine, the versions, the commit and the date."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    found = {
        "command": command_of(script, argv),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["commit"] = commit_of(Path(__file__).parent)
    found["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    return found


def commit_of(folder: Path) -> str:
    """What is checked out in a folder, "unknown" if git does not know; and whether files differ from it."""
    changed = _git(folder, "status", "--porcelain", "-uno")
    return (_git(folder, "rev-parse", "--short", "HEAD") or "unknown") + (", with changes" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    """What git says about a folder, nothing where there is no git or no repository."""
    command = ["git", "-C", str(folder.resolve()), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""
