"""Global generators are private within a block and untouched outside it."""

import random

import numpy as np

from scml_marl_env.world.rng import GlobalRandomness


def draws():
    return (
        random.random(),
        random.randint(0, 99),
        np.random.random(),
        int(np.random.randint(1000)),
        np.random.permutation(5)[0],
    )


def test_a_block_draws_what_seeding_the_globals_would():
    random.seed(7)
    np.random.seed(7)
    expected = [draws() for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    private = GlobalRandomness(7)
    drawn = []
    for _ in range(3):
        with private:
            drawn.append(draws())
        draws()
    assert drawn == expected


def test_the_callers_streams_go_on_as_if_nothing_had_been_half_a_pair_of_normals_included():
    def stream(between):
        random.seed(3)
        np.random.seed(3)
        numbers = []
        for _ in range(6):
            numbers += [np.random.randn(), random.gauss(0, 1), np.random.random()]
            between()
        return numbers

    private = GlobalRandomness(5)

    def enter():
        with private:
            np.random.randn(3)
            random.gauss(0, 1)
            np.random.seed(9)

    assert stream(enter) == stream(lambda: None)


def test_blocks_nest_between_worlds_but_not_within_one():
    one, two = GlobalRandomness(1), GlobalRandomness(2)
    with one, two:
        pass
    with one:
        try:
            with one:
                raise AssertionError("entered twice")
        except RuntimeError as error:
            assert "already" in str(error)
