"""Optimizers and schedules, written as data."""

from dl.optim.chain import Length, Optimizer, make, make_schedule

__all__ = ['Length', 'Optimizer', 'make', 'make_schedule']
