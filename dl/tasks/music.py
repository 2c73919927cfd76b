"""Polyphonic music: each frame of a piece, the keys that sound in it, from the frames before."""

import dataclasses
import functools
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Key, Num, PyTree

from dl.config.bounds import Positive, Range, Size
from dl.config.build import check_bounds
from dl.contract.kinds import SERIES
from dl.contract.metrics import F1, Mean, Overlap, average
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.decoding.decoder import Decoder
from dl.errors import ConfigError, nearest
from dl.show import music
from dl.tasks.network import Network
from dl.tasks.supervised import without_padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Music(Network):
  """Batches hold `series` [b, frames, keys], 1 where a key sounds, and NaN in the frames behind the end of a piece.

  The model reads a silent frame and all frames but the last, and gives logits [b, frames, keys]: given the frames
  before, the keys of a frame are independent of each other.

  Metrics: loss (nats a frame, over all frames); nll, the same without the first frame of each piece, as published
  tables have it; and of the keys whose probability is above a half, f1 and accuracy, |right| / |sounding or found|
  (Bay and others 2009).

  Cite: boulanger2012modeling

  Attributes:
    sample_length: frames of the samples among the artifacts.
    temperature: of these samples.
  """

  sample_length: Size = 64
  temperature: Positive = 1.0

  def inputs(self, batch: Batch) -> Float[Array, 'b n keys']:
    if 'series' not in batch:
      raise ConfigError(f'config.data: Music needs series in a batch, got {", ".join(sorted(batch))}')
    frames = jnp.nan_to_num(jnp.asarray(batch['series'], jnp.float32))
    return jnp.pad(frames[:, :-1], ((0, 0), (1, 0), (0, 0)))

  def check(self, batch: PyTree) -> None:
    wanted, shape = batch['series'].shape if 'series' in batch else None, self.outputs_shape(batch)
    self.check_direction('frame')
    if shape != wanted:
      raise ConfigError(
        f'config.model: Music needs logits {list(wanted)}, one of each key and frame, the model gives {list(shape)}'
      )

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    batch = without_padding(batch)
    logits, extra = self.apply(params, extra, self.inputs(batch), key, train)
    nats, there, weight = _compare(logits, batch['series'], batch['mask'])
    found = logits > 0
    count = lambda keys: (keys * weight[..., None]).sum()
    counts = count(found & there), count(found), count(there)
    loss = Mean.of(nats, weight, better='min')
    metrics = {
      'loss': loss,
      'nll': Mean.of(nats[:, 1:], weight[:, 1:], better='min'),
      'f1': F1(*counts),
      'accuracy': Overlap(*counts),
    }
    return average(loss), (extra, metrics)

  def predict(self, state: State, inputs: Num[Array, 'b n keys'], key: Key[Array, '']) -> dict[str, Array]:
    """How likely pieces are.

    Args:
      state: the training state.
      inputs: pieces, as the data set has them.
      key: not used.

    Returns:
      log_likelihood [b] in nats, frames [b] (how many there are), and nll [b], nats a frame without the first.
    """
    if wrong := SERIES.unfit(inputs if isinstance(inputs, jax.core.Tracer) else np.asarray(inputs), self.info):
      raise ConfigError(f'Music.predict: {wrong}')
    batch = {'series': jnp.asarray(inputs, jnp.float32)}
    logits, _ = self.apply(state.params, state.extra, self.inputs(batch), key, False)
    nats, _, real = _compare(logits, batch['series'], jnp.ones(len(inputs)))
    nats, later = nats * real, real[:, 1:].sum(1)
    return {
      'log_likelihood': -nats.sum(1),
      'frames': real.sum(1).astype(jnp.int32),
      'nll': nats[:, 1:].sum(1) / jnp.maximum(later, 1),
    }

  def sample(
    self,
    state: State,
    key: Key[Array, ''],
    count: int,
    prompt: str = '',
    length: Size = 64,
    temperature: Positive = 1.0,
    seconds: Annotated[float, Range(low=1e-6, high=16)] = 0.5,
  ) -> list[bytes]:
    """`count` pieces as MIDI files, which begin with the prompt and go on for `length` frames.

    Args:
      state: the training state.
      key: random key.
      count: number of pieces.
      prompt: frames to continue, the names of their keys: 'C3 G3 E4 C5, C3 G3 E4 C5' is a chord in two frames. The
        empty one is the beginning of a piece.
      length: frames to add.
      temperature: divides the logits of the keys.
      seconds: of a frame, up to 16, which a MIDI file has room for.

    Raises:
      ConfigError: a key which there is not, an option out of range, or a model without the methods of a
        `dl.decoding.decoder.Decoder`.
    """
    values = dict(length=length, temperature=temperature, seconds=seconds)
    check_bounds(self.sample, values, 'sample')
    rolls = self.continued(state, key, count, self.frames(prompt), length, temperature)
    return [music.midi(roll, self._lowest, seconds) for roll in rolls]

  def continued(
    self,
    state: State,
    key: Key[Array, ''],
    count: int,
    prompt: Bool[np.ndarray, 'n keys'],
    length: int,
    temperature: float,
  ) -> Bool[np.ndarray, 'count frames keys']:
    """Piano rolls: the prompt and, behind it, `length` frames which are drawn one by one."""
    variables = self.decoder_variables(state)
    begin = jnp.tile(jnp.asarray(prompt)[None], (count, 1, 1))
    new = _draw(self.model, variables, begin, key, temperature, length)
    return np.concatenate([np.asarray(begin), np.asarray(new)], 1)

  def frames(self, prompt: str) -> Bool[np.ndarray, 'n keys']:
    """The piano roll of a prompt; raises ConfigError for a key which there is not."""
    names = self.info.feature_names or ()
    chords = prompt.split(',') if prompt.strip() else []
    roll = np.zeros((len(chords), len(names)), bool)
    for row, chord in zip(roll, chords, strict=True):
      for name in chord.split():
        if name not in names:
          raise ConfigError(f"prompt: there is no key {name!r}; {nearest(name, names)}; 'C4 E4, C4' is of two frames")
        row[names.index(name)] = True
    return roll

  @property
  def _lowest(self) -> int:
    lowest = self.info.fact('lowest_pitch')
    if lowest is None:
      raise ConfigError("config.data: the source does not say the MIDI number of its lowest key, 'lowest_pitch'")
    return lowest

  def artifacts(self, state: State, key: Key[Array, '']) -> dict[str, Any]:
    """The piano rolls of two samples, of a model which is a `Decoder`."""
    if not isinstance(self.model, Decoder):
      return {}
    rolls = self.continued(state, key, 2, self.frames(''), self.sample_length, self.temperature)
    return {'samples': music.piano_roll(list(rolls), self.info.feature_names)}


def _compare(
  logits: Float[Array, 'b n keys'], series: Float[Array, 'b n keys'], rows: Float[Array, ' b']
) -> tuple[Float[Array, 'b n'], Bool[Array, 'b n keys'], Float[Array, 'b n']]:
  """(nats of each frame, which keys sound, 1 for frames which are real) of rows which are (1), or pad (0)."""
  real = ~jnp.isnan(series[..., 0])
  there = series > 0  # NaN is not
  nats = optax.sigmoid_binary_cross_entropy(logits, there.astype(jnp.float32)).sum(-1)
  return nats, there, rows[:, None] * real


@functools.partial(jax.jit, static_argnames=('model', 'length'))
def _draw(
  model: Decoder,
  variables: PyTree,
  prompt: Bool[Array, 'b n keys'],
  key: Key[Array, ''],
  temperature: float,
  length: int,
) -> Bool[Array, 'b length keys']:
  """Frames drawn one by one, as one compiled scan; the states of the model go along."""
  read = jnp.pad(prompt.astype(jnp.float32), ((0, 0), (1, 0), (0, 0)))  # a silent frame comes first
  logits, cache = model.prefill(variables, read)

  def step(carry: tuple[PyTree, Array], i: Array) -> tuple[tuple[PyTree, Array], Array]:
    cache, logits = carry
    frame = jax.random.bernoulli(jax.random.fold_in(key, i), jax.nn.sigmoid(logits / temperature))
    logits, cache = model.step(variables, cache, frame.astype(jnp.float32))
    return (cache, logits), frame

  return jnp.moveaxis(jax.lax.scan(step, (cache, logits), jnp.arange(length))[1], 0, 1)
