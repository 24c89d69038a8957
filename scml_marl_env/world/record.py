"""Records an episode of the real engine as a trace, and replays it in the fast engine.

    python -m scml_marl_env.world.record std-2025 --seed 3 --out episode.json.gz --option days=20 --option level=0

Whatever plays in it, agents of SCML or of the competition included, what was said on the wire is recorded and replayed
word by word (`world.parity`). Exit status 1 if any number differs.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Callable
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from scml_marl_env.actions import ACCEPT, END, OFFER
from scml_marl_env.config import read_options
from scml_marl_env.world.fast.tables import static_of
from scml_marl_env.world.parity import compare

_OTHER = -3  # an outcome that SCML has no name for
KINDS = ("REJECT_OFFER", "ACCEPT_OFFER", "END_NEGOTIATION", "WAIT", "NO_RESPONSE")


class Recorder:
    """Notes all that happens in one SCML world; `attach` it before the first step."""

    def __init__(self) -> None:
        self.days: list[dict[str, Any]] = []

    def attach(self, world: Any) -> None:
        """Listens to a constructed world, whose results stay what they would be."""
        self.world = world
        self.static = static_of(world)
        ids = [agent_id for agent_id in world.agents if agent_id in world.agent_profiles]
        self._ids = ids
        self._index = {agent_id: i for i, agent_id in enumerate(ids)} | {"SELLER": -1, "BUYER": -2}
        self._contracts: list[Any] = []
        self._about: list[tuple[bool, int]] = []
        self._number: dict[str, int] = {}
        for name in ("_make_negotiations", "_step_a_mechanism", "on_contract_signed", "start_contract_execution"):
            self._wrap(name, getattr(self, f"_after{name if name.startswith('_') else '_' + name}"))
        original = world.simulation_step

        def simulation_step(stage: int = 0) -> Any:
            if stage == 1:
                self.today["awi_end"] = self._accounts()
            result = original(stage)
            if stage == 0:
                self.today["awi_start"] = self._accounts()
            else:
                self._close_day()
            return result

        world.simulation_step = simulation_step

    def trace(self) -> dict[str, Any]:
        """The recording so far, as JSON."""
        scores = self.world.scores()
        return {
            "format": 1,
            "versions": {package: version(package) for package in ("scml", "negmas", "numpy")},
            "static": self.static,
            "contracts": [self._contract(*pair) for pair in zip(self._contracts, self._about, strict=True)],
            "days": self.days,
            "final_scores": [float(scores[agent_id]) for agent_id in self._ids],
            "n_days_run": len(self.days),
        }

    def _wrap(self, name: str, after: Callable) -> None:
        original = getattr(self.world, name)

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            ended = args[0].state.ended if name == "_step_a_mechanism" else False
            result = original(*args, **kwargs)
            after(ended, *args)
            return result

        setattr(self.world, name, call)

    def _after_make_negotiations(self, _: bool) -> None:
        world, threads = self.world, []
        self._thread: dict[str, int] = {}
        for i, (mechanism_id, negotiation) in enumerate(world._negotiations.items()):
            about, mechanism = negotiation.annotation, negotiation.mechanism
            buyer, seller = self._index[about["buyer"]], self._index[about["seller"]]
            owners = [self._index[negotiator.owner.id] for negotiator in mechanism.negotiators]
            caller = self._index[about["caller"]]
            threads.append([buyer, seller, int(about["product"]), caller, owners, int(mechanism.n_steps)])
            self._thread[mechanism_id] = i
            self._listen(mechanism, i)
        self.today: dict[str, Any] = {
            "day": int(world.current_step),
            "threads": threads,
            "events": [],
            "ends": [],
            "exec": [],
            "issues": [
                [[int(issue.min_value), int(issue.max_value)] for issue in issues] for issues in world._current_issues
            ],
            "tp_start": [float(price) for price in world.trading_prices],
            "exo_summary": [[int(items), int(dollars)] for items, dollars in world.exogenous_contracts_summary],
        }

    def _listen(self, mechanism: Any, thread: int) -> None:
        """Notes every answer that the mechanism gets, after it has judged it."""
        original = mechanism._safe_counter

        def safe_counter(negotiator: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
            step = int(state.step)
            try:
                response, failed = original(negotiator, state, *args, **kwargs)
            except Exception:  # SCML breaks the negotiation
                self.today["events"].append([thread, step, self._index[negotiator.owner.id], 2])
                raise
            kind = 2 if failed or response is None else KINDS.index(response.response.name)
            offer = [int(x) for x in response.outcome] if kind < 2 and response.outcome is not None else []
            self.today["events"].append([thread, step, self._index[negotiator.owner.id], kind, *offer])
            return response, failed

        mechanism._safe_counter = safe_counter

    def _after_step_a_mechanism(self, had_ended: bool, mechanism: Any, *_: Any) -> None:
        state = mechanism.state
        if not state.ended or had_ended:
            return
        kind = 0 if state.agreement is not None else 1 if state.broken else 2 if state.timedout else _OTHER
        deal = [int(x) for x in state.agreement] if state.agreement else []
        so_far = len(self.today["events"])
        self.today["ends"].append([self._thread[mechanism.id], so_far, kind, int(state.step), *deal])

    def _after_on_contract_signed(self, _: bool, contract: Any) -> None:
        forced = any(partner in ("SELLER", "BUYER") for partner in contract.partners)
        self._number[contract.id] = len(self._contracts)
        self._contracts.append(contract)
        self._about.append((forced, -1 if forced else self._thread[contract.mechanism_id]))

    def _after_start_contract_execution(self, _: bool, contract: Any) -> None:
        if contract.executed_at == self.world.current_step:
            self.today["exec"].append(self._number[contract.id])

    def _accounts(self) -> list[list[Any]]:
        rows = []
        for agent_id in self._ids:
            awi = self.world.agents[agent_id].awi
            rows.append(
                [
                    int(awi.current_exogenous_input_quantity),
                    int(awi.current_exogenous_input_price),
                    int(awi.current_exogenous_output_quantity),
                    int(awi.current_exogenous_output_price),
                    int(awi.needed_sales),
                    int(awi.needed_supplies),
                    int(awi.total_sales),
                    int(awi.total_supplies),
                    int(awi.total_future_sales),
                    int(awi.total_future_supplies),
                    float(awi.current_balance),
                    int(awi.current_inventory_input),
                    int(awi.current_inventory_output),
                ]
            )
        return rows

    def _close_day(self) -> None:
        world, ids, s = self.world, self._ids, self.world.current_step
        scores, page = world.scores(), self.today
        page["tp_end"] = [float(price) for price in world._trading_price[:, s + 1]]
        page["sold"] = [int(items) for items in world._sold_quantity[:, s + 1]]
        page["unit_price"] = [None if price != price else float(price) for price in world._real_price[:, s + 1]]
        numbers: dict[str, tuple[type, Callable[[str], Any]]] = {
            "profit": (float, lambda i: world._profits[i][-1]),
            "balance": (float, world.current_balance),
            "score": (float, lambda i: scores[i]),
            "inv_in": (int, lambda i: world._inventory_input[i]),
            "inv_out": (int, lambda i: world._inventory_output[i]),
            "shortfall_q": (int, lambda i: world._shortfall_quantity[i]),
            "shortfall_pen": (float, lambda i: world._shortfall_penalty[i]),
            "storage_cost": (float, lambda i: world._storage_cost[i]),
            "disposal_cost": (float, lambda i: world._disposal_cost[i]),
            "penalized_q": (int, lambda i: world._penalized_quantity[i]),
            "productivity": (float, lambda i: world._productivity[i]),
            "bankrupt": (int, lambda i: world.is_bankrupt[i]),
            "breach": (int, lambda i: world._breaches_of[i][-1]),
            "breach_level": (float, lambda i: world._breach_levels[i][-1]),
            "q_in": (int, lambda i: world._input_quantity[i]),
            "p_in": (int, lambda i: world._input_price[i]),
            "q_out": (int, lambda i: world._output_quantity[i]),
            "p_out": (int, lambda i: world._output_price[i]),
        }
        page["agents"] = {name: [kind(read(i)) for i in ids] for name, (kind, read) in numbers.items()}
        self.days.append(page)

    def _contract(self, contract: Any, about: tuple[bool, int]) -> list[int]:
        said, where, index = contract.agreement, contract.annotation, self._index
        return [
            int(where["product"]), index[where["seller"]], index[where["buyer"]], int(said["quantity"]),
            int(said["time"]), int(said["unit_price"]), int(contract.concluded_at), int(contract.signed_at),
            int(contract.executed_at), int(contract.nullified_at), int(about[0]), about[1],
        ]  # fmt: skip


def record_episode(env_id: str, seed: int, policy_seed: int = 0, **options: Any) -> dict[str, Any]:
    """The trace of one episode of the real engine, its controlled factories played by random allowed answers."""
    from scml_marl_env.array_env import ArrayEnv
    from scml_marl_env.registry import config_of

    config = config_of(env_id, **options | {"engine": "scml"})
    game, recorder = ArrayEnv(config), Recorder()
    game.engine.on_build = recorder.attach
    rng = np.random.default_rng(policy_seed)
    game.reset(seed)
    while game.window is not None:
        game.step(_random_allowed(game, rng))
    while game.engine.is_running:  # every controlled factory is bankrupt: the others go on
        game.engine.resume()
    trace = recorder.trace()
    trace["inventory"] = config.inventory
    game.close()
    return trace


def _random_allowed(game: Any, rng: np.random.Generator) -> np.ndarray:
    """int64 (N,): mostly offers, so that negotiations live on."""
    actions, masks = np.zeros(len(game.arrays.active), np.int64), game.grid.mask(game.arrays.bounds)
    for n in np.flatnonzero(game.arrays.active):
        offers, u = np.flatnonzero(masks[n, OFFER:]) + OFFER, rng.random()
        accepts = masks[n, ACCEPT] and u < 0.2
        actions[n] = ACCEPT if accepts else rng.choice(offers) if len(offers) and u < 0.95 else END
    return actions


def main(argv: list[str] | None = None) -> int:
    """Records, writes and replays; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scml_marl_env.world.record",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("env", help="id of an environment")
    parser.add_argument("--seed", type=int, default=0, help="of the episode")
    parser.add_argument("--policy-seed", type=int, default=0, help="of the random answers")
    parser.add_argument(
        "--option", action="append", default=[], help="key=value of the environment, as often as wanted"
    )
    parser.add_argument("--out", type=Path, help="file for the trace (.json.gz); none is written without")
    args = parser.parse_args(argv)
    if args.out is not None and args.out.is_dir():
        parser.error(f"--out names the file of the trace, {args.out} is a folder; try {args.out / 'episode.json.gz'}.")
    try:
        options = read_options(args.option)
    except ValueError as error:
        parser.error(str(error))
    trace = record_episode(args.env, args.seed, args.policy_seed, **options)
    if args.out is not None:
        args.out.write_bytes(gzip.compress(json.dumps(trace, separators=(",", ":")).encode(), mtime=0))
    report = compare(trace)
    print(
        f"{report.days} days, {report.rounds} rounds, {report.contracts} contracts, {report.values} values compared: "
        f"{report.difference or 'all equal'}"
    )
    return 1 if report.difference else 0


if __name__ == "__main__":
    sys.exit(main())
