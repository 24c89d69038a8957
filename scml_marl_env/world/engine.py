"""What an engine and the environments say to each other: events, answers, and the results of a day."""

from typing import NamedTuple

from scml_marl_env.layers.l1_shield import Shortfall


class Window(NamedTuple):
    """`factory` has threads that wait for its answer, see `on_turn` in its view."""

    factory: int


class Bankrupt(NamedTuple):
    """`factory` went bankrupt yesterday: it will have no more windows."""

    factory: int


class Over(NamedTuple):
    """The run is over. `error` is what stopped it early, None at its natural end."""

    error: str | None


Event = Window | Bankrupt | Over


class Answer(NamedTuple):
    """An answer in one thread: `operation` of `actions` (END, ACCEPT or OFFER) and the offer, if it is one."""

    operation: int
    quantity: int = 0
    lead: int = 0
    price: int = 0


class DayResult(NamedTuple):
    """What the simulator settled at the end of a day; items and dollars. `due_to` splits the shortfall."""

    day: int
    balance: float
    profit: float
    stock: int
    bought: int
    sold: int
    produced: int
    shortfall: int
    due_to: Shortfall
    shortfall_penalty: float
    storage_cost: float
    disposal_cost: float
