"""The training state: everything which training changes, so everything which a checkpoint holds."""

from typing import Any, NamedTuple, Self

import flax.struct
import jax
import optax
from jaxtyping import Array, Int, PyTree


class ParamsEmaState(NamedTuple):
  """Optimizer state of the `params_ema` stage: the average itself and the number of updates it has seen."""

  count: Int[Array, '']
  average: PyTree


@flax.struct.dataclass
class State:
  """One training state.

  Attributes:
    step: number of completed training steps, int32 scalar.
    params: player -> parameters; most tasks have the one player 'model'.
    opt: player -> optax state.
    extra: player -> collection -> variables of its network which are no parameters (batch statistics); and beside the
      players, under keys of the task's own, whatever else training changes: environment states, replay buffers.
  """

  step: Int[Array, '']
  params: dict[str, PyTree]
  opt: dict[str, PyTree]
  extra: Any

  def averaged(self) -> Self:
    """This state with each player's parameters replaced by their running average, where a chain keeps one.

    Batch statistics stay those of training, which are running averages themselves.
    """
    params = dict(self.params)
    for player, opt in self.opt.items():
      is_ema = lambda x: isinstance(x, ParamsEmaState)
      averages = [x.average for x in jax.tree.leaves(opt, is_leaf=is_ema) if is_ema(x)]
      if averages:
        pick = lambda average, param: param if isinstance(average, optax.MaskedNode) else average
        masked = lambda x: isinstance(x, optax.MaskedNode)  # a frozen parameter has no average
        params[player] = jax.tree.map(pick, averages[0], params[player], is_leaf=masked)
    return self.replace(params=params)
