"""Tagging: a class for each word of a sentence, and the spans that they make."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num, PyTree

from dl.contract.metrics import F1, Mean, Precision, Recall, average
from dl.contract.state import State
from dl.contract.task import Batch, Metrics
from dl.decoding import spans
from dl.errors import ConfigError
from dl.losses import cross_entropy, sequence
from dl.tasks.supervised import Supervised, without_padding

Outputs = Float[Array, 'b n tags'] | dict[str, Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tagging(Supervised):
  """Batches hold `words` [b, n, 1 + characters] or `tokens` [b, n], and `tags` [b, n], -1 behind the end.

  The model gives scores [b, n, tags]: the tags of a sentence are then independent of each other. Or it gives those of a
  linear-chain CRF, {'out': scores, 'transitions': [from, to], 'begin': [tags], 'end': [tags]}.

  Metrics: loss (nats a word); evaluations add accuracy, of words, and precision, recall and f1 of spans, which are
  right if their kind and both ends are, as conlleval has it.

  Attributes:
    bio: whether a CRF gives no probability to an I-X that does not come after a B-X or I-X.
  """

  bio: bool = True

  def inputs(self, batch: Batch) -> Array:
    names = [name for name in self.info.inputs(batch) if name in ('words', 'tokens') or self.info.kinds]
    if not names:
      raise ConfigError(f'config.data: Tagging needs words or tokens in a batch, got {", ".join(sorted(batch))}')
    return self.prepare(batch[names[0]])

  def prepare(self, inputs: Num[Array, 'b ...']) -> Num[Array, 'b ...']:
    """Words as the model reads them: without an axis for their characters, where they have none."""
    x = super().prepare(inputs)
    return x[..., 0] if x.ndim == 3 and x.shape[-1] == 1 else x

  def chain(self, outputs: Outputs) -> sequence.Chain | None:
    """The CRF of the model's outputs, where they are of one."""
    if not isinstance(outputs, Mapping):
      return None
    chain = sequence.Chain(*(outputs[name] for name in ('out', 'transitions', 'begin', 'end')))
    return sequence.forbid(chain, *sequence.forbidden_by_bio(self.info.class_names)) if self.bio else chain

  def decode(self, outputs: Outputs, real: Bool[Array, 'b n']) -> Int[Array, 'b n']:
    """The likeliest tags of each sentence, -1 behind its end."""
    chain = self.chain(outputs)
    if chain is not None:
      return sequence.viterbi(chain, real)[0]
    return jnp.where(real, outputs.argmax(-1), -1).astype(jnp.int32)

  def run(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Outputs, Any, Mean]:
    """(outputs, new extra, nats of a word) of a batch whose padded rows are zeros."""
    outputs, extra = self.apply(params, extra, self.inputs(batch), key, train)
    tags, real = batch['tags'], batch['tags'] >= 0
    chain = self.chain(outputs)
    if chain is None:
      nats = (cross_entropy(outputs, jnp.maximum(tags, 0)) * real).sum(1)
    else:
      nats = -sequence.log_likelihood(chain, tags, real)
    weight = batch['mask']
    loss = Mean((jnp.where(weight > 0, nats, 0) * weight).sum(), (real.sum(1) * weight).sum(), better='min')
    return outputs, extra, loss

  def loss(
    self, params: dict[str, PyTree], extra: Any, batch: Batch, key: Key[Array, ''], train: bool
  ) -> tuple[Float[Array, ''], tuple[Any, Metrics]]:
    _, extra, loss = self.run(params, extra, without_padding(batch), key, train)
    return average(loss), (extra, {'loss': loss})

  def evaluate(self, state: State, batch: Batch, key: Key[Array, '']) -> Metrics:
    batch = without_padding(batch)
    outputs, _, loss = self.run(state.params, state.extra, batch, key, False)
    tags, weight = batch['tags'], batch['mask']
    real = tags >= 0
    found = self.decode(outputs, real)
    counts = spans.compare(found, tags, self.info.class_names, weight)
    metrics = {'loss': loss, 'accuracy': Mean.of(found == tags, weight[:, None] * real, better='max')}
    return metrics | {name: kind(*counts) for name, kind in (('precision', Precision), ('recall', Recall), ('f1', F1))}

  def check(self, batch: PyTree) -> None:
    if 'tags' not in batch or len(batch['tags'].shape) != 2:
      raise ConfigError(f'config.data: Tagging needs tags [words] in an example, got {", ".join(sorted(batch))}')
    if self.info.class_names is None:
      raise ConfigError('config.data: Tagging needs the names of the tags; the source states them: info.class_names')
    for key, known in (
      ('vocab_size', self.info.vocab_size),
      ('character_size', len(self.info.fact('characters') or ())),
    ):
      size = getattr(self.model, key, None)
      if size and known and size < known:
        raise ConfigError(f'config.model.{key} is {size}, but the data has {known} ids')
    wanted, shape = (*batch['tags'].shape, len(self.info.class_names)), self.outputs_shape(batch)
    if shape != wanted:
      hint = f'; config.model.num_outputs is the number of tags, {wanted[-1]}' if shape[:2] == wanted[:2] else ''
      raise ConfigError(f'config.model: Tagging needs scores {list(wanted)}, the model gives {list(shape)}{hint}')

  def predict(self, state: State, inputs: Num[Array, 'b n ...'], key: Key[Array, '']) -> dict[str, Array]:
    """Words or tokens, as the data set has them, to `tags` [b, n], -1 behind the end of a sentence."""
    x = jnp.asarray(self.checked(inputs))
    real = (x[..., 0] if x.ndim == 3 else x) >= 0
    outputs, _ = self.apply(state.params, state.extra, self.prepare(x), key, False)
    return {'tags': self.decode(outputs, real)}
