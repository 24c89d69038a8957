"""PettingZoo's and Gymnasium's official tests, and what they leave out."""

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from pettingzoo.test import api_test, max_cycles_test, parallel_api_test, parallel_seed_test, seed_test, state_test
from pettingzoo.utils.conversions import parallel_to_aec

import scml_marl_env
from scml_marl_env.actions import WAIT
from tests.players import random_masked

SEVERAL = [
    ("std-mini", {"controlled": 2, "processes": 3, "factories_per_level": (2, 3)}),
    ("std-mini", {"controlled": 2, "processes": 3, "level": (1, 1), "reward": "potential", "shield": "covered"}),
    ("std-mini", {"controlled": "all", "inventory": "conserving"}),
    ("oneshot-mini", {"controlled": "all", "factories_per_level": (2, 3), "shield": "off"}),
]
EVERY = [(env_id, {}) for env_id in scml_marl_env.ids()] + SEVERAL
# Both are PettingZoo's word on observations that are dicts, which action masks need.
DICT_OBSERVATIONS = pytest.mark.filterwarnings("ignore:Observation")


@pytest.mark.parametrize(("env_id", "options"), EVERY)
def test_parallel_api(env_id, options):
    parallel_api_test(scml_marl_env.make(env_id, **options), num_cycles=60)


@DICT_OBSERVATIONS
@pytest.mark.parametrize(("env_id", "options"), EVERY)
def test_aec_api(env_id, options):
    api_test(parallel_to_aec(scml_marl_env.make(env_id, **options)), num_cycles=60)


@DICT_OBSERVATIONS
@pytest.mark.parametrize(("env_id", "options"), [("std-mini", {}), ("oneshot-mini", {}), *SEVERAL])
def test_seeds_states_and_limits_by_the_official_tests(env_id, options):
    options = {"days": 5, "opponents": "greedy", **options}
    parallel_seed_test(lambda: scml_marl_env.make(env_id, **options), num_cycles=30)
    seed_test(lambda: parallel_to_aec(scml_marl_env.make(env_id, **options)), num_cycles=30)
    env = scml_marl_env.make(env_id, **options)
    state_test(parallel_to_aec(env), env, num_cycles=30)


@DICT_OBSERVATIONS
def test_max_cycles_by_the_official_test():
    max_cycles_test(scml_marl_env.oneshot_mini_v0)


@pytest.mark.parametrize("env_id", ["std-mini", "oneshot-mini"])
def test_gymnasium_check_env(env_id):
    check_env(scml_marl_env.make_factory(env_id), skip_render_check=True)


def test_gymnasium_make_runs_its_wrappers():
    import gymnasium

    env = gymnasium.make("scml_marl_env/StdMini-v0")
    _, info = env.reset(seed=3)
    done = False
    while not done:
        mask = info["action_mask"]
        action = np.array([np.random.default_rng(0).choice(np.flatnonzero(row)) for row in mask])
        _, _, terminated, truncated, info = env.step(action)
        done = terminated or truncated
    assert info["episode"]["days"] == 20


def test_maskable_masks_are_the_flat_masks():
    env = scml_marl_env.make_factory("std-mini")
    _, info = env.reset(seed=1)
    masks = env.action_masks()
    assert masks.dtype == bool and masks.shape == (env.action_space.nvec.sum(),)
    assert (masks.reshape(info["action_mask"].shape) == info["action_mask"]).all()


@pytest.mark.parametrize("options", [{"controlled": 1}, {"controlled": 2, "processes": 3}])
def test_spaces_masks_and_infos_agree_over_an_episode(options):
    env = scml_marl_env.make("std-mini", opponents="greedy", **options)
    rng = np.random.default_rng(0)
    observations, infos = env.reset(seed=2)
    total = dict.fromkeys(env.agents, 0.0)
    keys = infos[env.agents[0]].keys()
    while env.agents:
        assert set(observations) == set(infos) == set(env.agents)
        for agent in env.agents:
            assert env.observation_space(agent).contains(observations[agent])
            mask = observations[agent]["action_mask"]
            assert infos[agent]["action_mask"] is mask and mask.any()
            assert infos[agent].keys() == keys, "wrappers make a table of the infos"
            if not infos[agent]["active"]:
                assert np.flatnonzero(mask).tolist() == [WAIT]
            else:
                assert mask[WAIT] == 0 and mask[1] == 1
        factories = {infos[agent]["factory"] for agent in env.agents if infos[agent]["active"]}
        assert len(factories) == 1, "a window belongs to one factory"
        assert env.state_space.contains(env.state())
        actions = random_masked(env.game, rng)
        stepped = list(env.agents)
        observations, rewards, terminated, truncated, infos = env.step(
            {agent: int(actions[env.possible_agents.index(agent)]) for agent in env.agents}
        )
        for agent in stepped:
            total[agent] += rewards[agent]
            assert type(terminated[agent]) is bool and type(truncated[agent]) is bool
            assert rewards[agent] == pytest.approx(infos[agent]["profit"] + infos[agent]["shaping"], abs=1e-6)
    episode = env.statistics()
    for agent in total:
        factory = int(agent.removeprefix("thread_")) // env.config.n_slots
        assert total[agent] == pytest.approx(episode["return"][factory], abs=1e-5)
        assert episode["score"][factory] == pytest.approx(env.game.engine.score(factory), abs=1e-9)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchrl_steps_the_environment():
    pytest.importorskip("torchrl")
    from torchrl.envs import PettingZooWrapper
    from torchrl.envs.utils import check_env_specs

    env = PettingZooWrapper(
        scml_marl_env.make("oneshot-mini", days=5, opponents="greedy", mask_in="observation"),
        use_mask=True,
        categorical_actions=True,
    )
    check_env_specs(env)
    rollout = env.rollout(40, break_when_any_done=False)
    assert rollout.batch_size[0] == 40
    masks, actions = rollout["thread", "action_mask"], rollout["thread", "action"]
    assert masks.gather(-1, actions.unsqueeze(-1)).all(), "TorchRL draws only what the mask allows"
