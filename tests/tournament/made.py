"""Records made by hand."""

from scml_marl_env.tournament.record import MEASURES, SeatRecord, WorldRecord

LEVELS = 3


def world(seed: int, rotation: int, competitor: str, scores: dict[int, float], **measures: float) -> WorldRecord:
    """One competitor at the given seats; the index of a seat is its level."""
    given = dict.fromkeys(MEASURES, 0.0) | measures
    seats = tuple(
        SeatRecord(index=i, level=i, last=i == LEVELS - 1, competitor=competitor, measures=given | {"score": score})
        for i, score in scores.items()
    )
    return WorldRecord(
        key=f"{seed}/{rotation}", world_seed=seed, rotation=rotation, error=None, n_days=10, n_levels=LEVELS,
        competitors=(competitor,), seats=seats, seconds=1.5,
    )  # fmt: skip


def failed(seed: int, rotation: int, error: str, *competitors: str) -> WorldRecord:
    return WorldRecord(
        key=f"{seed}/{rotation}", world_seed=seed, rotation=rotation, error=error, n_days=10, n_levels=LEVELS,
        competitors=competitors, seats=(), seconds=60.0,
    )  # fmt: skip


def small() -> list[WorldRecord]:
    """a beats b by 0.1, ties with it, loses by 0.3, beats it by 0.4; b misses the third world."""
    return [
        world(1, 0, "a", {0: 1.1, 2: 1.5}, deals=4, buy_price=float("nan")),
        world(1, 1, "b", {0: 1.0, 2: 1.5}, deals=2),
        world(2, 0, "a", {0: 0.7, 2: 1.6}, deals=6, buy_price=1.25),
        world(2, 1, "b", {0: 1.0, 2: 1.2}, deals=2),
        world(3, 0, "a", {0: 9.0}, deals=8, buy_price=0.75),
        failed(3, 1, "timeout: 60 s", "b"),
    ]
