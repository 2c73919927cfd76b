"""The Task contract: a learning problem as pure functions, which is all that the loop knows of it."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import flax.linen as nn
import jax
import optax
from jaxtyping import Array, Float, Key, PyTree

from dl.contract.info import Info
from dl.contract.metrics import Metric
from dl.contract.state import State

Batch = dict[str, Array]
Metrics = dict[str, Metric]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
  """A learning problem: a frozen dataclass of modules and hyperparameters, with no hidden state.

  A supervised task writes `loss` alone. A task with several players, or with no data set, overrides `step`.
  The batches it is given are as models see them (`dl.contract.info.to_float`), but for `predict`.

  Attributes:
    model: the Linen module, or a mapping player -> module.
    info: facts about the data (`dl.contract.info.Info`), enough to predict without the data.
  """

  model: nn.Module | Mapping[str, nn.Module]
  info: Info = dataclasses.field(default_factory=Info)

  needs_data: ClassVar[bool] = True
  """False for a task which makes its own data inside `step`; its batches are then empty dicts."""

  by_row: ClassVar[tuple[str, ...]] = ()
  """Keys of `State.extra` whose arrays have a row for each of a batch, and are split over devices as the batch is."""

  says: ClassVar[Mapping[str, Any]] = {}
  """Facts that the task adds to those of the data (`Info`), where these do not state them."""

  examined_by: ClassVar[str | None] = None
  """The evaluator (a name below `dl.evaluators`) whose findings a run ends with, where the config names none."""

  @property
  def players(self) -> dict[str, nn.Module]:
    """Player -> its network; the only one is called 'model'."""
    return dict(self.model) if isinstance(self.model, Mapping) else {'model': self.model}

  @property
  def examples_per_step(self) -> int | None:
    """Examples (environment steps, ...) one step consumes; None means the batch size."""
    return None

  @property
  def updates_per_step(self) -> int | Mapping[str, int]:
    """Optimizer updates which one training step makes, of all players or of each; schedules count updates."""
    return 1

  @property
  def shared(self) -> Mapping[str, int]:
    """Argument -> numbers of rows it makes, which the axes of the batch must share beside the batches of the data."""
    return {}

  def init(self, key: Key[Array, ''], batch: Batch) -> tuple[dict[str, PyTree], Any]:
    """Initial (params, extra): player -> parameters, and what else training changes, as `State` holds them."""
    raise NotImplementedError

  def check(self, batch: PyTree) -> None:
    """Compares model and data by shape alone (`batch` holds `jax.ShapeDtypeStruct`); raises ConfigError."""

  def limits(self, batch: PyTree) -> Mapping[str, Any]:
    """Facts of the data (`Info`) which the model sets where the data states none, as the most classes there may be.

    By shapes alone, after `check`; all batches are held to them.
    """
    return {}

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    """(scalar loss, (new extra, metrics)). A row whose `batch['mask']` is 0 counts for nothing."""
    raise NotImplementedError

  def step(
    self, state: State, batch: Batch, key: Key[Array, ''], optim: Mapping[str, optax.GradientTransformation]
  ) -> tuple[State, Metrics]:
    """One training step; by default one gradient of `loss`, and one update of each player."""
    grads, (extra, metrics) = jax.grad(self.loss, has_aux=True)(state.params, state.extra, batch, key, True)
    params, opt = dict(state.params), dict(state.opt)
    for player in params:
      params[player], opt[player] = update(optim[player], grads[player], opt[player], params[player])
    return State(step=state.step + 1, params=params, opt=opt, extra=extra), metrics

  def evaluate(self, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    """Metrics of one evaluation batch; by default those of `loss` with train=False."""
    return self.loss(state.params, state.extra, batch, key, False)[1][1]

  def predict(self, state: State, inputs: Any, key: Key[Array, '']) -> Any:
    """What a user of the trained model calls: raw inputs, as the data set has them, to outputs."""
    raise NotImplementedError(f'{type(self).__name__} has nothing to predict; see dl.sample')

  def sample(self, state: State, key: Key[Array, ''], count: int, **options: Any) -> Any:
    """`count` samples of a generative task.

    Images `[count, height, width, channels]` in [0, 1], a list of texts, or a list of bytes: MIDI files.
    """
    raise NotImplementedError(f'{type(self).__name__} draws no samples; see dl.predict')

  def stream(self, state: State, key: Key[Array, ''], **options: Any) -> Iterator[str]:
    """A sample of a task whose samples are texts, piece by piece, as it is made."""
    raise NotImplementedError(f'{type(self).__name__} has no samples that can be shown as they are made')

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """What people would rather look at: name -> image `[h, w, c]` in [0, 1] | text (str) | table (list of dicts)."""
    return {}


def update(optim: optax.GradientTransformation, grads: PyTree, opt: PyTree, params: PyTree) -> tuple[PyTree, PyTree]:
  """One optimizer update: (new params, new optimizer state)."""
  updates, opt = optim.update(grads, opt, params)
  return optax.apply_updates(params, updates), opt
