"""Replays recorded runs of real SCML in the fast engine and compares every number.

    python -m scml_marl_env.world.parity TRACE.json.gz ...

A trace is what `record.py` of the project's shared/parity folder writes, or `python -m scml_marl_env.world.record`. The
world is built from its static part alone, and the recorded moves are fed one by one, each in the thread, round and
factory in which the engine asks for it. Every end of a negotiation, contract, price, balance, stock, profit, cost,
penalty, account (AWI) and score of every day is compared for equality, integers and float64 alike. Nothing is
re-synchronised: the first difference ends the comparison of a trace. Exit status 1 if any trace differs or cannot be
read.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scml_marl_env.handles import handle
from scml_marl_env.view import empty_view
from scml_marl_env.world.fast import columns as at
from scml_marl_env.world.fast.columns import State, Tables, empty_state
from scml_marl_env.world.fast.day import end_day, start_day
from scml_marl_env.world.fast.play import begin
from scml_marl_env.world.fast.tables import tables_of
from scml_marl_env.world.fast.talks import AGREED, FAULTS, Tape, talk

MOVE_COLUMNS = 7


class Difference(NamedTuple):
    """Where an engine and a recording first differ; `factory` is an index, -1 where none is concerned."""

    day: int
    factory: int
    field: str
    engine: Any
    recorded: Any

    def __str__(self) -> str:
        where = f"day {self.day}, " + (f"factory {self.factory}, " if self.factory >= 0 else "")
        return f"{where}{self.field}: engine {self.engine!r}, recorded {self.recorded!r}"


class Report(NamedTuple):
    """What was compared of a trace, and the first difference."""

    days: int
    rounds: int  # answers of single negotiators
    contracts: int
    values: int
    difference: Difference | None


class _Differs(Exception):
    pass


def load_trace(path: Path) -> dict[str, Any]:
    """The trace in a file, gzipped or not.

    Raises:
        ValueError: if it is none.
    """
    data = path.read_bytes()
    try:
        trace = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"{path} is no trace: {error}.") from error
    missing = {"static", "days", "contracts", "final_scores"} - set(trace)
    if missing:
        raise ValueError(f"{path} is no trace: it has no {', '.join(sorted(missing))}.")
    return trace


def compare(trace: Mapping[str, Any]) -> Report:
    """Replays a trace and compares it, see the module.

    Raises:
        ValueError: for a world that the fast engine does not play, saying why.
    """
    replay = _Replay(trace)
    try:
        replay.run()
    except _Differs as found:
        return replay.report(found.args[0])
    return replay.report(None)


class _Replay:
    """The fast engine along one trace."""

    def __init__(self, trace: Mapping[str, Any]) -> None:
        self.trace = trace
        static = dict(trace["static"])
        static["exogenous"] = _exogenous_as_signed(trace)
        self.static = static
        self.t: Tables = handle(tables_of(static))
        self.n_factories, self.n_products = len(static["agents"]), static["n_products"]
        self.n_threads = int(self.t.world[0, at.N_THREADS])
        self.ring = int(self.t.world[0, at.HORIZON]) + 1
        self.s: State = handle(empty_state(1, self.t, static["n_steps"]))
        self.view = handle(empty_view(0, self.t.slot.shape[2], self.ring, 0))
        self.pairs = {
            (int(row[at.BUYER]), int(row[at.SELLER])): i for i, row in enumerate(self.t.thread[0, : self.n_threads])
        }
        self.tape, self.marks = self._tape()
        self.days = self.values = 0
        self.contracts: list[list[int]] = []
        self.numbers: dict[int, int] = {}  # in that list, of the contract in each place of `State.contract`
        f = self.n_factories
        begin(
            self.t, self.s, self.view, 0, 0, np.full(f, at.REPLAY), np.full(f, -1), np.zeros(f, np.uint64),
            trace.get("inventory") == "conserving",
        )  # fmt: skip

    def run(self) -> None:
        for page in self.trace["days"]:
            self._day(page)
            self.days += 1
        last = len(self.trace["days"]) - 1
        for number, recorded in enumerate(self.trace["contracts"]):
            self._same(last, -1, f"contract {number}", self._contract(number, last), recorded)
        self._same(last, -1, "number of contracts", len(self.contracts), len(self.trace["contracts"]))
        for f, score in enumerate(self.trace["final_scores"]):
            self._same(last, f, "final score", self._score(f), score)

    def report(self, difference: Difference | None) -> Report:
        rounds = int(self.s.world[0, at.MOVE])
        return Report(self.days, rounds, len(self.contracts), self.values, difference)

    def _day(self, page: Mapping[str, Any]) -> None:
        day, t, s = page["day"], self.t, self.s
        self._same(day, -1, "day", int(s.world[0, at.DAY]), day)
        start_day(t, s, 0)
        agendas = [self._agenda(product, day) for product in range(self.n_products)]
        for product, (mine, recorded) in enumerate(zip(agendas, page["issues"], strict=True)):
            self._same(day, -1, f"agenda of product {product}", mine, recorded)
        self._each(day, "trading price at the start", s.price[0, :, at.TRADING_PRICE], page["tp_start"], "product")
        for word, of, items, dollars in (
            ("supply", 0, at.EXO_FIRST, at.EXO_IN_COST),
            ("demand", -1, at.EXO_LAST, at.EXO_OUT_REVENUE),
        ):
            totals = [int(s.world[0, items]), int(s.factory[0, :, dollars].sum())]
            self._same(day, -1, f"exogenous {word}", totals, list(page["exo_summary"][of]))
        self._same(day, -1, "threads", self._threads(), [thread[:5] for thread in page["threads"]])
        self._accounts(day, "awi_start", page)
        talk(t, s, self.view, self.tape, 0)
        self._check_talk(day)
        self._keep_contracts(day, page)
        self._accounts(day, "awi_end", page)
        due = self._due(day)
        end_day(t, s, 0)
        self._same(day, -1, "contracts executed", due, page["exec"])
        self._each(day, "trading price at the end", s.price[0, :, at.TRADING_PRICE], page["tp_end"], "product")
        self._each(day, "items traded", s.price[0, :, at.ITEMS_TRADED].astype(int), page["sold"], "product")
        means = [float(s.price[0, p, at.MEAN_PRICE]) if page["sold"][p] else None for p in range(self.n_products)]
        self._each(day, "mean price", means, page["unit_price"], "product")
        for field, values in self._results(day).items():
            if field in page["agents"]:
                self._each(day, field, values, page["agents"][field], "factory")

    def _results(self, day: int) -> dict[str, Any]:
        """The day's results under the names of the trace, one value for each factory."""
        page, f = self.s.diary[0, day], self.n_factories
        column = {name: page[:f, i] for i, name in enumerate(at.DIARY)}
        lines = self.t.factory[0, :f, at.LINES]
        whole = {name: column[name].astype(int) for name in at.DIARY}
        return {
            "profit": column["profit"],
            "balance": column["balance"],
            "score": [self._score(i) for i in range(f)],
            "inv_in": whole["stock"],
            "inv_out": np.zeros(f, int),
            "shortfall_q": whole["shortfall"],
            "shortfall_pen": column["penalty"],
            "storage_cost": column["storage"],
            "disposal_cost": column["disposal"],
            "penalized_q": whole["unused"],
            "productivity": column["produced"] / lines,
            "bankrupt": whole["bankrupt"],
            "breach": (column["breach_level"] > 0).astype(int),
            "breach_level": column["breach_level"],
            "q_in": whole["bought"],
            "p_in": whole["bought_cost"],
            "q_out": whole["sold"],
            "p_out": whole["sold_revenue"],
        }

    def _score(self, f: int) -> float:
        start = int(self.t.factory[0, f, at.INITIAL_BALANCE])
        balance = float(self.s.money[0, f, at.EARNED]) + start
        return balance / start if start else balance

    def _agenda(self, product: int, day: int) -> list[list[int]]:
        world = self.t.world[0]
        today = 0 if product == 0 else day  # SCML never renews the agenda of product 0
        last = int(world[at.N_DAYS]) - 1
        days = [min(today, last), min(today + int(world[at.HORIZON]), last)]
        prices = [int(price) for price in self.s.agenda[0, product]]
        return [[int(world[at.QUANTITY_LOW]), int(world[at.QUANTITY_HIGH])], days, prices]

    def _threads(self) -> list[list[Any]]:
        rows = []
        for i in range(self.n_threads):
            if self.s.thread[0, i, at.RUNNING]:
                buyer, seller, product, first, second = (int(x) for x in self.t.thread[0, i, :5])
                rows.append([buyer, seller, product, first, [first, second]])
        return rows

    def _accounts(self, day: int, where: str, page: Mapping[str, Any]) -> None:
        names = self.trace.get("columns", {}).get("awi", _AWI)
        for f, recorded in enumerate(page[where]):
            for name, mine, theirs in zip(names, self._account(f, day), recorded, strict=True):
                self._same(day, f, f"{where}.{name}", mine, theirs)

    def _account(self, f: int, day: int) -> list[Any]:
        factory, table, world = self.s.factory[0, f], self.t.factory[0, f], self.t.world[0]
        due = self.s.due[0, f]
        stock, today = int(factory[at.STOCK]), day % self.ring
        bought, sold = int(due[at.DUE_IN, today]), int(due[at.DUE_OUT, today])
        need = int(factory[at.EXO_IN]) + stock + bought - sold - int(factory[at.EXO_OUT])
        cap = int(table[at.LINES]) if world[at.PERISHABLE] else 1 << 60
        is_first, is_last = table[at.LEVEL] == 0, table[at.LEVEL] == world[at.N_PRODUCTS] - 2
        return [
            int(factory[at.EXO_IN]), int(factory[at.EXO_IN_COST]), int(factory[at.EXO_OUT]),
            int(factory[at.EXO_OUT_REVENUE]), 0 if is_last else min(cap, need), 0 if is_first else min(cap, -need),
            sold, bought, int(due[at.DUE_OUT].sum()) - sold, int(due[at.DUE_IN].sum()) - bought,
            float(self.s.money[0, f, at.BALANCE]), stock, 0,
        ]  # fmt: skip

    def _check_talk(self, day: int) -> None:
        world, tape = self.s.world[0], self.tape
        move, end = int(world[at.MOVE]), int(world[at.END_OF_TALK])
        fault = FAULTS[int(world[at.FAULT])]
        moves, ends = self.marks[day]
        if fault or move != moves or end != ends:
            kind = fault or ("move" if move != moves else "end")
            rows, n = (tape.moves, move) if kind == "move" else (tape.ends, end)
            recorded = rows[n].tolist() if n < len(rows) else "nothing more"
            i = int(self.s.running[0, min(int(world[at.POSITION]), self.n_threads - 1)])
            state = f"asks in thread {i}, round {int(self.s.thread[0, i, at.STEP])}"
            raise _Differs(Difference(day, -1, f"{kind} {n} of all days", state, recorded))
        self.values += 1

    def _keep_contracts(self, day: int, page: Mapping[str, Any]) -> None:
        """Notes the contracts signed today, as the engine holds them, in the order in which their negotiations ended.

        The engine has compared that order with the recorded one (`talks.compare_end`).
        """
        created = {(thread[0], thread[1]): n for n, thread in enumerate(page["threads"])}
        n_threads, before = self.s.contract.shape[2], self.marks[day - 1][1] if day else 0
        ends = self.tape.ends[before : self.marks[day][1]]
        rank = {i: n for n, i in enumerate(ends[ends[:, 2] == AGREED, 0].tolist())}
        signed = [waiting for waiting in self._queued(day) if waiting[0] // n_threads == day % self.ring]
        for c, i, delivery, quantity, price in sorted(signed, key=lambda waiting: rank[waiting[1]]):
            buyer, seller, product = (int(x) for x in self.t.thread[0, i, :3])
            self.numbers[c] = len(self.contracts)
            thread = created[(buyer, seller)]
            self.contracts.append([product, seller, buyer, quantity, delivery, price, day, day, -1, -1, 0, thread])
        span = slice(int(self.t.exogenous_day[0, day]), int(self.t.exogenous_day[0, day + 1]))
        for product, quantity, price, f in self.t.exogenous[0, span].tolist():
            seller, buyer = (-1, f) if product == 0 else (f, -2)
            self.contracts.append([product, seller, buyer, quantity, day, price, -1, day, -1, -1, 1, -1])

    def _queued(self, day: int) -> list[tuple[int, int, int, int, int]]:
        """(place, thread, delivery day, items, price) of every contract that waits, by delivery day, as signed."""
        rows = []
        contracts = self.s.contract[0].reshape(-1, self.s.contract.shape[3])
        for d in range(self.ring):
            delivery = day + (d - day) % self.ring
            c = int(self.s.queue[0, d, at.HEAD])
            while c >= 0:
                quantity, price, after = (int(x) for x in contracts[c])
                rows.append((c, c % self.s.contract.shape[2], delivery, quantity, price))
                c = after
        return rows

    def _due(self, day: int) -> list[int]:
        """Numbers of the contracts that the engine will execute today, in its order."""
        bankrupt, numbers = self.s.factory[0, :, at.BANKRUPT], []
        for c, i, delivery, _, _ in self._queued(day):
            buyer, seller = self.t.thread[0, i, at.BUYER], self.t.thread[0, i, at.SELLER]
            if delivery == day and not bankrupt[buyer] and not bankrupt[seller]:
                numbers.append(self.numbers[c])
        n_forced = int(self.t.exogenous_day[0, day + 1] - self.t.exogenous_day[0, day])
        numbers += range(len(self.contracts) - n_forced, len(self.contracts))
        for number in numbers:
            self.contracts[number][8] = day
        return numbers

    def _contract(self, number: int, last: int) -> list[int] | None:
        """A contract as the engine left it; what a bankruptcy voided is marked until its delivery day."""
        if number >= len(self.contracts):
            return None
        contract = list(self.contracts[number])
        seller, buyer, delivery, executed, forced = (contract[i] for i in (1, 2, 4, 8, 10))
        bankrupt = self.s.factory[0, :, at.BANKRUPT]
        if executed < 0 and not forced and (bankrupt[seller] or bankrupt[buyer]):
            contract[9] = min(delivery, last)
        return contract

    def _tape(self) -> tuple[Tape, list[tuple[int, int]]]:
        """The recorded moves and ends of all days, and how many of each there are by the end of each day."""
        moves: list[list[int]] = []
        ends: list[list[int]] = []
        marks = []
        for page in self.trace["days"]:
            place = [self.pairs[thread[0], thread[1]] for thread in page["threads"]]
            before = len(moves)
            for thread, step, actor, kind, *offer in page["events"]:
                refuses = kind == 0 and not offer
                moves.append([place[thread], step, actor, 2 if refuses else kind, *(offer or (0, 0, 0))])
            for thread, so_far, kind, step, *deal in page["ends"]:
                ends.append([place[thread], before + so_far, kind, step, *(deal or (0, 0, 0))])
            marks.append((len(moves), len(ends)))
        columns = MOVE_COLUMNS
        tape = Tape(np.array(moves, np.int32).reshape(-1, columns), np.array(ends, np.int32).reshape(-1, columns))
        return handle(tape), marks

    def _each(self, day: int, field: str, mine: Any, recorded: Any, of: str) -> None:
        for i, (value, theirs) in enumerate(zip(mine, recorded, strict=True)):
            name = field if of == "factory" else f"{field} of product {i}"
            self._same(day, i if of == "factory" else -1, name, value, theirs)

    def _same(self, day: int, factory: int, field: str, mine: Any, recorded: Any) -> None:
        mine = mine.item() if isinstance(mine, np.generic) else mine
        self.values += 1
        if mine != recorded:
            raise _Differs(Difference(day, factory, field, mine, recorded))


_AWI = (
    "ex_qin", "ex_pin", "ex_qout", "ex_pout", "needed_sales", "needed_supplies", "total_sales", "total_supplies",
    "total_future_sales", "total_future_supplies", "balance", "inv_in", "inv_out",
)  # fmt: skip


def _exogenous_as_signed(trace: Mapping[str, Any]) -> list[list[int]]:
    """The exogenous contracts, those of a day in the order in which they were signed.

    SCML keeps them in a set, whose order no rule determines; a recording that replaced it has them in the list's order.
    """
    given = [list(row) for row in trace["static"]["exogenous"]]
    signed = [
        [row[4], row[0], row[3], row[5], row[1] if row[1] >= 0 else -1, row[2] if row[2] >= 0 else -1]
        for row in trace["contracts"]
        if row[10]
    ]
    days = {row[0] for row in signed}
    rest = [row for row in given if row[0] not in days]
    return signed + rest if sorted(signed + rest) == sorted(given) else given


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Compares the traces named on the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m scml_marl_env.world.parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", nargs="+", type=Path, help="file of a trace, .json or .json.gz")
    failed = 0
    for path in parser.parse_args(argv).trace:
        try:
            report = compare(load_trace(path))
        except (OSError, ValueError) as error:
            failed += 1
            say(f"FAIL  {path}: {error}")
            continue
        failed += report.difference is not None
        counts = (
            f"{report.days} days, {report.rounds} rounds, {report.contracts} contracts, {report.values} values compared"
        )
        say(f"{'DIFF' if report.difference else 'OK  '}  {path}: {counts}")
        if report.difference:
            say(f"      first difference: {report.difference}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
