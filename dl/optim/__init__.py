"""Optimizers and schedules, written as data."""

from dl.optim.chain import Optimizer, make
from dl.optim.schedules import Length, make_schedule

__all__ = ['Length', 'Optimizer', 'make', 'make_schedule']
