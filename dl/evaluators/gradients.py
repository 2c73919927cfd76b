"""How far back a recurrent network learns: gradients against distance in time."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from dl.config.bounds import Size
from dl.contract.evaluator import Evaluator
from dl.contract.metrics import ExpMean
from dl.contract.state import State
from dl.contract.task import Batch, Metrics, Task
from dl.decoding.decoder import Continuing
from dl.errors import ConfigError
from dl.losses import cross_entropy
from dl.show import pictures
from dl.show.words import rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class ThroughTime(Evaluator):
  """Of language models which go on from a state: how large the gradient of a loss is with respect to earlier states.

  The loss is that of the token behind the first `length` ones of a row, the states are those 1, 2, ... tokens before,
  of all layers together. Where the gradient vanishes with the distance, nothing is learned across it; where it grows,
  steps are of any size, and clipping helps (On the difficulty of training recurrent neural networks, arXiv 1211.5063).

  Metric: gradient_factor, by which the gradient is multiplied for each token further back, in the geometric mean.
  Artifacts: a plot, and a table of distances.

  Cite: pascanu2013difficulty

  Attributes:
    length: the largest distance; rows with fewer tokens count for nothing.
  """

  length: Size = 64

  def measure(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    sizes, real = self._sizes(task, state, batch)
    growth = (jnp.log(sizes[:, -1]) - jnp.log(sizes[:, 0])) / (self.length - 1)
    return {'gradient_factor': ExpMean.of(growth, batch['mask'] * real, better=None)}

  def examine(self, task: Task, state: State, batch: Batch, key: Key[Array, '']) -> dict[str, Array]:
    """Of each row: the norms at distances 1, 2, ..., and whether it has as many tokens."""
    sizes, real = self._sizes(task, state, batch)
    return {'gradient': sizes, 'long': real}

  def findings(
    self, task: Task, examined: dict[str, np.ndarray], inputs: Callable[[np.ndarray], Batch]
  ) -> dict[str, Any]:
    sizes = examined['gradient'][examined['long']].astype(np.float64)
    if not len(sizes):
      return {}
    distance = np.arange(1, self.length + 1)
    quantiles = {f'{q} %': np.quantile(sizes, q / 100, axis=0) for q in (90, 50, 10)}
    shown = [k for k in 2 ** np.arange(32) if k < self.length] + [self.length]
    table = [{'distance': int(k)} | {q: rounded(v[k - 1], 4) for q, v in quantiles.items()} for k in shown]
    lines = {f'{q} of the rows' if q != '50 %' else 'median': (distance, v) for q, v in quantiles.items()}
    return {'gradients': pictures.curves(lines, 'tokens before', 'norm of the gradient', log=True), 'distances': table}

  def _sizes(self, task: Task, state: State, batch: Batch) -> tuple[Float[Array, 'b length'], Bool[Array, ' b']]:
    """(norms at distances 1, 2, ..., which rows have as many tokens); a norm is at least the smallest float32."""
    model = getattr(task, 'model', None)
    if 'tokens' not in batch or not isinstance(model, Continuing):
      who = f'{type(task).__name__} of {type(model).__name__}'
      raise ConfigError(f'ThroughTime is of language models which go on from a state, which {who} is not')
    if self.length < 2:
      raise ConfigError(f'length: at least two distances are compared, got {self.length}')
    if batch['tokens'].shape[1] <= self.length:
      raise ConfigError(f'length: {self.length} distances need a token more, and a row has {batch["tokens"].shape[1]}')
    tokens = batch['tokens'][:, : self.length + 1]
    variables = {'params': state.params['model'], **state.extra['model']}
    sizes = norms(model, variables, jnp.maximum(tokens, 0))
    return jnp.maximum(sizes, jnp.finfo(jnp.float32).tiny), (tokens >= 0).all(1)


def norms(model: nn.Module, variables: PyTree, tokens: Int[Array, 'b n']) -> Float[Array, 'b n-1']:
  """Norms of the gradient of the last token's loss with respect to the states 1, 2, ..., n - 1 tokens before.

  Args:
    model: a `dl.decoding.decoder.Continuing`.
    variables: its variables.
    tokens: of which the last one is predicted alone.
  """
  rows, count = len(tokens), tokens.shape[1] - 1
  read = lambda carry, some: model.apply(variables, some[:, None], carry=carry, state=True)

  def loss(pushes: PyTree) -> Float[Array, '']:
    """The rows' losses, where each state is pushed a little before it is read."""
    pushed = lambda carry, push: jax.tree.map(jnp.add, carry, push)
    step = lambda carry, at: (read(pushed(carry, at[1]), at[0])[1], None)
    early, last = jax.tree.map(lambda x: x[:-1], pushes), jax.tree.map(lambda x: x[-1], pushes)
    carry, _ = jax.lax.scan(step, model.begin(rows), (tokens[:, : count - 1].T, early))
    logits, _ = read(pushed(carry, last), tokens[:, count - 1])
    return cross_entropy(logits[:, -1], tokens[:, count]).sum()

  still = jax.tree.map(lambda x: jnp.zeros((count, *x.shape), x.dtype), model.begin(rows))
  flat = [g.reshape(count, rows, -1) for g in jax.tree.leaves(jax.grad(loss)(still))]
  gradient = jnp.concatenate(flat, -1)
  largest = jnp.abs(gradient).max(-1, keepdims=True)  # by which is divided: squares of 1e-20 are 0 in float32
  shares = gradient / jnp.where(largest > 0, largest, 1.0)
  return (largest[..., 0] * jnp.sqrt(jnp.square(shares).sum(-1)))[::-1].T
