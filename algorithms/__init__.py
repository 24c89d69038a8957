"""Multi-agent PPO for any vector environment of arrays and, through `algorithms.vector`, any PettingZoo ParallelEnv."""
