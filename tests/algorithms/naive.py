"""Slow twins: the same numbers from the definitions, one decision at a time."""


def discount(elapsed, gamma: float, first: int, last: int) -> float:
    """D(first, last): gamma to the time that passes in steps first .. last - 1."""
    return gamma ** sum(float(d) for d in elapsed[first:last])


def gae_of_one_agent(reward, elapsed, terminated, truncated, active, value, final_value, last_value, gamma, lam):
    """Advantages of one agent from lists over time, forwards from every decision: {step: advantage}.

    For each decision the rewards are summed until the next decision, the end of the episode, or the end of the
    rollout; then the deltas of this and the following decisions are added up, each weighted by lambda once per
    decision and by gamma to the time between, until the chain of decisions breaks.
    """
    n_steps = len(reward)
    transitions = {}
    for t in (t for t in range(n_steps) if active[t]):
        total, end, follower = 0.0, None, None
        for i in range(t, n_steps):
            total += discount(elapsed, gamma, t, i) * float(reward[i])
            end = i + 1
            if terminated[i]:
                bootstrap = 0.0
                break
            if truncated[i]:
                bootstrap = float(final_value[i])
                break
            if end < n_steps and active[end]:
                bootstrap, follower = float(value[end]), end
                break
        else:
            bootstrap = float(last_value)
        delta = total + discount(elapsed, gamma, t, end) * bootstrap - float(value[t])
        transitions[t] = (delta, follower)

    def advantage(t):
        chain, weight, result = t, 1.0, 0.0
        while chain is not None:
            delta, follower = transitions[chain]
            result += weight * delta
            if follower is not None:
                weight *= lam * discount(elapsed, gamma, chain, follower)
            chain = follower
        return result

    return {t: advantage(t) for t in transitions}
