"""L1, the safety layer: which answers a thread may give (`write_bounds`), and which ones together (`settle`).

Definition of every term: SAFETY.md. Three strengths, so that research can price safety instead of assuming it:

    off        what SCML's protocol forbids (outside the agenda, accept without an offer)
    feasible   and what makes a shortfall certain, or a payment of today unaffordable
    covered    and every sale that needs further purchases, every payment that needs further sales

END is always legal and `wait` only where nothing is to be answered. L1 never proposes a trade of its own.
"""

from scml_marl_env.config import SHIELDS
from scml_marl_env.layers.l1_bounds import write_bounds
from scml_marl_env.layers.l1_counters import (
    CAUSES,
    COUNTS,
    Answers,
    Shortfall,
    attribute_shortfall,
    count_unsafe,
    decode_answers,
    judge_answers,
    new_answers,
)
from scml_marl_env.layers.l1_rooms import COVERED, FEASIBLE, OFF
from scml_marl_env.layers.l1_settle import REASONS, settle

__all__ = [
    "CAUSES",
    "COUNTS",
    "COVERED",
    "FEASIBLE",
    "OFF",
    "REASONS",
    "SHIELDS",
    "Answers",
    "Shortfall",
    "attribute_shortfall",
    "count_unsafe",
    "decode_answers",
    "judge_answers",
    "new_answers",
    "settle",
    "write_bounds",
]
