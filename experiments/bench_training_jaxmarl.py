"""Times iterations of IPPO in JAX on JaxMARL's simple_spread and writes one JSON.

Runs in its own virtual environment, never in ours: `bench_training.py` starts it and reads the JSON. JaxMARL's package
brings environments and not its baselines, so the learner is written here in their manner: rollout, advantages and all
gradient steps are one compiled function, parameters are shared by the agents, actor and critic have layers of their
own. XLA starts more threads than its flags say, so the process keeps to one core where the system lets it.
"""

import os
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import jax.numpy as jnp
import jaxmarl
import optax
from other_venv import serve

N_STEPS, LEARNING_RATE, GAMMA, LAMBDA, CLIP, VALUE_WEIGHT, ENTROPY_WEIGHT = 100, 7e-4, 0.99, 0.95, 0.2, 0.5, 0.01


def layers(key, sizes):
    """Weights and offsets of a network of tanh layers."""
    keys = jax.random.split(key, len(sizes) - 1)
    orthogonal = jax.nn.initializers.orthogonal(2**0.5)
    shapes = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [(orthogonal(k, (n_in, n_out)), jnp.zeros(n_out)) for k, n_in, n_out in shapes]


def forward(network, x):
    """Output of the network, linear in its last layer."""
    for weight, offset in network[:-1]:
        x = jnp.tanh(x @ weight + offset)
    weight, offset = network[-1]
    return x @ weight + offset


def loss_of(parameters, batch):
    """PPO's loss of a minibatch."""
    observation, action, old_log_prob, advantage, target = batch
    log_probs = jax.nn.log_softmax(forward(parameters["actor"], observation))
    log_prob = jnp.take_along_axis(log_probs, action[:, None], axis=-1)[:, 0]
    ratio = jnp.exp(log_prob - old_log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    error = jnp.square(forward(parameters["critic"], observation)[:, 0] - target).mean()
    return VALUE_WEIGHT * error - gain - ENTROPY_WEIGHT * entropy


def iteration_of(env, n_worlds, epochs, minibatches, optimiser):
    """The compiled function from one iteration's state to the next one's."""
    agents, reset, step = env.agents, jax.vmap(env.reset), jax.vmap(env.step)

    def rows(values):
        return jnp.concatenate([values[agent] for agent in agents])

    def act(parameters, observation, key):
        log_probs = jax.nn.log_softmax(forward(parameters["actor"], observation))
        action = jax.random.categorical(key, log_probs)
        log_prob = jnp.take_along_axis(log_probs, action[:, None], axis=-1)[:, 0]
        return action, log_prob, forward(parameters["critic"], observation)[:, 0]

    def play(carry, _):
        parameters, worlds, observation, key = carry
        key, of_action, of_world = jax.random.split(key, 3)
        action, log_prob, value = act(parameters, observation, of_action)
        actions = dict(zip(agents, action.reshape(len(agents), n_worlds), strict=True))
        seen, worlds, reward, done, _ = step(jax.random.split(of_world, n_worlds), worlds, actions)
        record = (observation, action, log_prob, value, rows(reward), rows(done).astype(jnp.float32))
        return (parameters, worlds, rows(seen), key), record

    def back(carry, record):
        advantage, value_after = carry
        value, reward, done = record
        error = reward + GAMMA * value_after * (1 - done) - value
        advantage = error + GAMMA * LAMBDA * (1 - done) * advantage
        return (advantage, value), advantage

    def learn(carry, batch):
        parameters, state = carry
        gradients = jax.grad(loss_of)(parameters, batch)
        updates, state = optimiser.update(gradients, state)
        return (optax.apply_updates(parameters, updates), state), None

    @jax.jit
    def iterate(parameters, state, worlds, observation, key):
        (_, worlds, observation, key), record = jax.lax.scan(
            play, (parameters, worlds, observation, key), None, N_STEPS
        )
        seen, action, log_prob, value, reward, done = record
        last = forward(parameters["critic"], observation)[:, 0]
        _, advantage = jax.lax.scan(back, (jnp.zeros_like(last), last), (value, reward, done), reverse=True)
        batch = [x.reshape(-1, *x.shape[2:]) for x in (seen, action, log_prob, advantage, advantage + value)]
        n = batch[0].shape[0]

        def epoch(carry, of_order):
            order = jax.random.permutation(of_order, n)[: n // minibatches * minibatches]
            parts = [x[order].reshape(minibatches, -1, *x.shape[1:]) for x in batch]
            return jax.lax.scan(learn, carry, parts)

        key, of_orders = jax.random.split(key)
        (parameters, state), _ = jax.lax.scan(epoch, (parameters, state), jax.random.split(of_orders, epochs))
        return parameters, state, worlds, observation, key, reward.mean()

    def begin(key):
        observation, worlds = reset(jax.random.split(key, n_worlds))
        return worlds, rows(observation)

    return begin, iterate


def train(settings):
    """Trains for a few iterations; one row with the times of each.

    Args:
        settings: hidden, decisions, epochs, minibatches, repeats, warm_up, seed.
    """
    env = jaxmarl.make("MPE_simple_spread_v3", max_steps=N_STEPS)
    n_worlds = max(1, settings["decisions"] // (N_STEPS * env.num_agents))
    agent, hidden = env.agents[0], settings["hidden"]
    n_inputs, n_actions = env.observation_space(agent).shape[0], env.action_space(agent).n
    key, of_actor, of_critic, of_worlds = jax.random.split(jax.random.PRNGKey(settings["seed"]), 4)
    parameters = {
        "actor": layers(of_actor, [n_inputs, *hidden, n_actions]),
        "critic": layers(of_critic, [n_inputs, *hidden, 1]),
    }
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(LEARNING_RATE))
    begin, iterate = iteration_of(env, n_worlds, settings["epochs"], settings["minibatches"], optimiser)
    worlds, observation = begin(of_worlds)
    state, rows = optimiser.init(parameters), []
    for repeat in range(-settings["warm_up"], settings["repeats"]):
        cpu, wall = time.process_time(), time.perf_counter()
        parameters, state, worlds, observation, key, reward = iterate(parameters, state, worlds, observation, key)
        reward = float(reward)  # waits for the result
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if repeat >= 0:
            decisions = env.num_agents * n_worlds * N_STEPS
            rows.append({"repeat": repeat, "decisions": decisions, "cpu_seconds": cpu, "wall_seconds": wall})
            rows[-1]["reward"] = reward
    return rows


if __name__ == "__main__":
    raise SystemExit(serve(__doc__, train))
