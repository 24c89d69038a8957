"""What reaches SCML is legal for SCML, and running it lean changes no result."""

import numpy as np
import pytest

from scml_marl_env import opponents
from scml_marl_env.agent import WindowAgent
from scml_marl_env.array_env import ArrayEnv
from scml_marl_env.registry import config_of
from scml_marl_env.world.draw import draw, world_class
from scml_marl_env.world.official import build
from scml_marl_env.world.rng import GlobalRandomness
from tests.players import Patient, random_masked


@pytest.mark.parametrize(("env_id", "options"), [("std-mini", {"processes": 3}), ("oneshot-mini", {})])
def test_running_lean_changes_no_result(env_id, options, tmp_path):
    """The same draw in the official class with SCML's defaults: limits, threads, records and all."""
    config = config_of(env_id, days=8, opponents=Patient, **options)
    drawn = draw(config, 3)
    with GlobalRandomness(9):
        lean = build(drawn, config, Patient)
        while lean.step():
            pass
    from scml.oneshot.sysagents import DefaultOneShotAdapter

    classes = [Patient if path is None else opponents.load(path) for path in drawn.agent_types]
    with GlobalRandomness(9):
        official = world_class(config)(
            **{
                **drawn.params,
                "log_folder": str(tmp_path),
                "agent_types": [DefaultOneShotAdapter] * len(classes),
                "agent_params": [{"controller_type": agent} for agent in classes],
            }
        )
        while official.step():
            pass
    ours, theirs = {agent.plain: score for agent, score in lean.scores().items()}, official.scores()
    assert ours.keys() == theirs.keys() and lean.current_step == official.current_step == 8
    for agent in ours:  # an exogenous contract's place in a set of random ids moves the last bit of a trading price
        assert ours[agent] == pytest.approx(theirs[agent], rel=1e-12)
    deals = [
        sorted(
            (
                c.agreement["time"],
                c.agreement["quantity"],
                c.agreement["unit_price"],
                *sorted(map(str.__str__, c.partners)),
            )
            for contracts in world.agent_contracts.values()
            for c in contracts
        )
        for world in (lean, official)
    ]
    assert deals[0] == deals[1] and len(deals[0]) > 20


def wire_check(monkeypatch, counts):
    """Counts our messages, and checks each against the live agenda of its negotiation."""
    outcome = WindowAgent._outcome

    def spy(self, partner, answer):
        offer = outcome(self, partner, answer)
        if offer is not None:
            issues = self.get_nmi(partner).issues
            assert all(type(value) is int for value in offer)
            assert all(issue.is_valid(value) for issue, value in zip(issues, offer, strict=True)), (offer, issues)
            counts["offers"] += 1
        return offer

    monkeypatch.setattr(WindowAgent, "_outcome", spy)


def play_on_the_wire(env_id, seed, windows, counts, **options):
    """Random masked windows against opponents that never end; every broken negotiation must be an `end` of ours."""
    game = ArrayEnv(config_of(env_id, opponents=Patient, **options))
    rng = np.random.default_rng(seed)
    game.reset(seed)
    done = ended = 0
    while game.window is not None and done < windows:
        actions = random_masked(game, rng, p_accept=0.05, p_end=0.08)
        game.step(actions)
        ended += int((game.arrays.executed == 1).sum())
        done += 1
    while game.window is not None:  # let the day finish, so that every negotiation is counted
        game.step(random_masked(game, rng, p_accept=0.05, p_end=0.0))
        ended += int((game.arrays.executed == 1).sum())
        done += 1
    view = game.engine.view
    broken = sum(
        agent.adapted_object.broken
        for agent in game.engine.world.agents.values()
        if isinstance(agent.adapted_object, Patient)
    )
    assert game.engine.n_exceptions() == 0 and game.world_error is None
    for side, name in ((view.is_buy, "bought"), (~view.is_buy & view.exists, "sold")):
        counts[name, int(view.level[0])] = counts.get((name, int(view.level[0])), 0) + int(view.n_deals[side].sum())
    counts["windows"] += done
    return broken, ended


@pytest.mark.parametrize("level", [0, 1, 2])
def test_offers_on_the_wire_are_legal(monkeypatch, level):
    counts = {"offers": 0, "windows": 0}
    wire_check(monkeypatch, counts)
    monkeypatch.setattr(Patient, "broken", 0, raising=False)
    monkeypatch.setattr(Patient, "on_negotiation_failure", _count_broken)
    broken, ended = play_on_the_wire("std-mini", level, 10**9, counts, processes=3, level=level, days=20)
    assert broken == ended > 0, "only an `end` of ours breaks a negotiation"
    assert counts["offers"] > 50
    if level > 0:
        assert counts["bought", level] > 0
    if level < 2:
        assert counts["sold", level] > 0


def _count_broken(self, partners, annotation, mechanism, state):
    """Negotiations of a patient opponent that were broken: it never does that itself."""
    ours = [p for p in partners if self.awi._world.agents[p].adapted_object.__class__.__name__ == "_BridgeAgent"]
    self.broken += bool(state.broken and ours)


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ["std-2025", "oneshot-2025", "std-mini"])
def test_twenty_thousand_windows_on_the_wire(monkeypatch, env_id):
    counts = {"offers": 0, "windows": 0}
    wire_check(monkeypatch, counts)
    monkeypatch.setattr(Patient, "broken", 0, raising=False)
    monkeypatch.setattr(Patient, "on_negotiation_failure", _count_broken)
    options = {"std-2025": {"days": 25}, "oneshot-2025": {"days": 40}, "std-mini": {"processes": 4, "days": 40}}[env_id]
    seed = 0
    while counts["windows"] < 20_000 // 3 + 1:
        broken, ended = play_on_the_wire(env_id, seed, 10**9, counts, **options)
        assert broken == ended
        seed += 1
    levels = {level for name, level in (key for key in counts if isinstance(key, tuple))}
    last = {"std-2025": None, "oneshot-2025": 1, "std-mini": 3}[env_id]
    for level in levels:
        assert level == 0 or counts["bought", level] > 0
        assert last is None or level == last or counts["sold", level] > 0
    assert len(levels) >= (2 if env_id == "oneshot-2025" else 3)
