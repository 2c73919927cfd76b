"""Losses: functions of (outputs, targets), one value an example."""

from dl.losses.categorical import binary, binary_focal, cross_entropy, dice, focal
from dl.losses.make import Loss, make
from dl.losses.numeric import huber, mae, mse

__all__ = ['Loss', 'binary', 'binary_focal', 'cross_entropy', 'dice', 'focal', 'huber', 'mae', 'make', 'mse']
