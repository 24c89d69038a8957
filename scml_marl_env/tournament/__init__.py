"""Tournaments of SCML agents in official worlds: who plays where, playing it safely on any backend, and the figures."""
