"""Environments of agents, as pure functions."""
