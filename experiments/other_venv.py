"""How the scripts that run in another library's virtual environment are asked and answer: JSON in, a JSON file out.

Only the standard library may be imported here.
"""

import argparse
import json
from collections.abc import Callable
from typing import Any


def serve(description: str | None, measure: Callable[[dict[str, Any]], Any]) -> int:
    """Writes what `measure` makes of the settings of the command line, and returns 0.

    Args:
        description: for `--help`.
        measure: from the settings to anything that JSON can hold.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--settings", required=True, help="JSON, as the script that starts this one writes it")
    parser.add_argument("--out", required=True, help="JSON file for the result")
    arguments = parser.parse_args()
    result = measure(json.loads(arguments.settings))
    with open(arguments.out, "w") as file:
        json.dump(result, file)
    return 0
