"""What agents do that they should not: an observer of any SCML agent, an external shield, and PenguinAgent's case."""
