"""Where and with what a result was made; every file under experiments/results holds it."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("scml_marl_env", "scml", "negmas", "scml-agents", "numpy", "numba", "greenlet", "torch")


def about() -> dict[str, Any]:
    """The machine, the versions, the commit and the date."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    here = Path(__file__).resolve().parent
    found = {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    git = ["git", "-C", str(here)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False)
    found["commit"] = (commit.stdout.strip() or "unknown") + (", with changes" if changed.stdout.strip() else "")
    found["date"] = datetime.now(UTC).isoformat(timespec="seconds")
    return found
