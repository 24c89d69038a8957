"""The settings of proximal policy optimisation, every default included."""

from dataclasses import dataclass

from algorithms.networks import Activation


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """PPO with the details that matter (Huang et al., 2022; Yu et al., 2022). Actor and critic share no layer."""

    actor_hidden: tuple[int, ...] = (64, 64)
    """sizes of the actor's hidden layers"""
    critic_hidden: tuple[int, ...] = (64, 64)
    """sizes of the critic's hidden layers"""
    activation: Activation = "tanh"
    """after every hidden layer"""
    gamma: float = 0.99
    """discount for one unit of the time that the env says has elapsed (SCML: a day; other envs: a step)"""
    gae_lambda: float = 0.95
    """trace decay, once per decision"""
    clip: float = 0.2
    """probability ratios beyond 1 +- clip earn nothing more"""
    value_clip: float | None = None
    """values may move this far from their old ones, in normalised units; None for no limit"""
    epochs: int = 4
    """passes over a rollout"""
    minibatches: int = 4
    """gradient steps of a pass"""
    lr: float = 7e-4
    """Adam's step for the actor at the start"""
    critic_lr: float = 7e-4
    """Adam's step for the critic at the start"""
    lr_end: float = 0.1
    """share of both steps that is left at the end of training; linear in between, 1 for constant"""
    entropy: float = 0.01
    """weight of the entropy bonus at the start"""
    entropy_end: float = 0.01
    """weight of the entropy bonus at the end; linear in between"""
    max_grad_norm: float = 0.5
    """gradients of the actor, and of the critic, are scaled down to this norm"""
    init_kl: float = 0.0
    """weight of the divergence from the policy that training starts from (`warm_start.start_from`), at first, in units
    of normalised advantage; 0 for none"""
    init_kl_end: float = 0.0
    """the same at the end; linear in between"""
    target_kl: float | None = None
    """stop the epochs once the policy has moved this far, in nats, on average over an epoch; None for never"""
    recompute_advantage: bool = True
    """estimate values and advantages anew before every epoch (Andrychowicz et al., 2021), not only before the first"""
    normalise_advantage: bool = True
    """mean 0 and deviation 1 over all decisions of the rollout"""
    normalise_value: bool = True
    """the critic learns targets of mean 0 and deviation 1 (running)"""
    value_decay: float = 0.5
    """how much of the running moments of the targets survives a rollout; see networks.ValueScale before raising it"""
    normalise_observation: bool = False
    """running mean and deviation of observations and state; off where the env scales its features"""
    blocked: bool = True
    """on a CPU, gradients by algorithms.blocks where it has the network; False for autograd: equal up to rounding"""

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatches"):
            if getattr(self, name) < 1:
                raise ValueError(f"PPOConfig.{name} must be at least 1, got {getattr(self, name)}.")
        for name in ("init_kl", "init_kl_end"):
            if getattr(self, name) < 0:
                raise ValueError(f"PPOConfig.{name} must not be negative, got {getattr(self, name)}.")
        for name in ("gamma", "gae_lambda", "value_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"PPOConfig.{name} must lie in [0, 1], got {getattr(self, name)}.")
