"""HRL-XF, one file per level: L1 safety, L2 goals, L3 threads, L4 coordination."""
