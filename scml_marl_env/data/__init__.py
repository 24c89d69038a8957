"""Offline data: recorders of any SCML agent, and datasets of their decisions."""
