"""Losses: functions of (outputs, targets), one value an example."""

from dl.losses.categorical import binary, binary_focal, cross_entropy, dice, focal
from dl.losses.make import Loss as Loss
from dl.losses.make import make as make
from dl.losses.numeric import huber, mae, mse

__all__ = ['binary', 'binary_focal', 'cross_entropy', 'dice', 'focal', 'huber', 'mae', 'mse']  # what a config can name
