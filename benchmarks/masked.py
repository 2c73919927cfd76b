"""python -m benchmarks.masked [--config=experiments/text/mlm_pretrain.py] [--evaluation=test]

What a masked language model has to beat: a bigram model, which knows a token by its left and its right neighbour. It
counts the pairs of the training texts, and fills in the blanks of an experiment's own masks: the likeliest token is
that of the largest p(token | left) p(right | token), where a neighbour that is hidden, too, says nothing.

Beside it stands how often the most frequent token is right. Probabilities of pairs are smoothed as Witten and Bell do
(An Empirical Study of Smoothing Techniques for Language Modeling, 1998).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jaxtyping import Bool, Float, Int

from dl import config
from dl.training import assemble


def define_flags() -> None:
  """Not on import, since tests import this beside commands which have a flag 'config' too."""
  flags.DEFINE_string('config', 'experiments/text/mlm_pretrain.py', 'A config with a masked language model.')
  flags.DEFINE_string('evaluation', 'test', 'Which of its evaluations.')


class Pairs(NamedTuple):
  """Probabilities of tokens, and of a token behind another; the last of them stands around a text.

  Attributes:
    single: p(token) [tokens + 1].
    after: p(second | first) [tokens + 1, tokens + 1].
  """

  single: Float[np.ndarray, ' tokens']
  after: Float[np.ndarray, 'tokens tokens']


class Found(NamedTuple):
  """What was found of hidden tokens.

  Attributes:
    bigram: share of those whose neighbours say what they are.
    unigram: share of the most frequent token.
    nats: of the bigram model, a token.
  """

  bigram: float
  unigram: float
  nats: float


def count(texts: Int[np.ndarray, 'b n'], size: int) -> Pairs:
  """The pairs of texts of tokens below `size`, which end in negative ones."""
  whole = np.pad(np.where(texts < 0, size, texts), ((0, 0), (1, 1)), constant_values=size)
  first, second = whole[:, :-1].ravel(), whole[:, 1:].ravel()
  there = (first < size) | (second < size)  # and not both behind the end
  counts = np.zeros((size + 1, size + 1))
  np.add.at(counts, (first[there], second[there]), 1.0)
  single = counts.sum(0) + 1.0  # each token is possible
  single /= single.sum()
  kinds, total = (counts > 0).sum(1, keepdims=True), counts.sum(1, keepdims=True)
  return Pairs(single, np.where(total > 0, (counts + kinds * single) / np.maximum(total + kinds, 1), single))


def fill_in(pairs: Pairs, texts: Int[np.ndarray, 'b n'], chosen: Bool[np.ndarray, 'b n']) -> Found:
  """How well neighbours say what stands in the chosen places of texts."""
  size = len(pairs.single) - 1
  whole = np.where(texts < 0, size, texts)
  seen = np.pad(np.where(chosen, -1, whole), ((0, 0), (1, 1)), constant_values=size)
  rows, places = np.nonzero(chosen)
  left, right, truth = seen[rows, places], seen[rows, places + 2], whole[rows, places]
  share = np.where(left[:, None] >= 0, pairs.after[left, :size], pairs.single[:size])
  share = share * np.where(right[:, None] >= 0, pairs.after[:size, right].T, 1.0)
  share /= share.sum(1, keepdims=True)
  nats = -np.log(share[np.arange(len(truth)), truth])
  right_of = lambda guess: float((guess == truth).mean())
  return Found(right_of(share.argmax(1)), right_of(pairs.single[:size].argmax()), float(nats.mean()))


def main(argv: Sequence[str]) -> None:
  """Prints what is found of the hidden tokens of an evaluation."""
  del argv
  FLAGS = flags.FLAGS
  experiment = config.load(FLAGS.config)
  parts = assemble.assemble(experiment)
  evaluated = assemble.make_eval_pipelines(experiment, [FLAGS.evaluation])[FLAGS.evaluation]
  texts = np.stack([example['tokens'] for example in evaluated.source])
  learned = np.stack([example['tokens'] for example in parts.pipeline.source])
  chosen = np.asarray(parts.task.blanked(jnp.asarray(texts))[1])
  found = fill_in(count(learned, parts.task.info.vocab_size), texts, chosen)
  print(f'{len(learned):,} texts to count, {int(chosen.sum()):,} hidden tokens in {len(texts):,} of {FLAGS.evaluation}')
  print(f'bigrams: accuracy {found.bigram:.4f}, {found.nats:.4f} nats; most frequent token: {found.unigram:.4f}')


if __name__ == '__main__':
  define_flags()
  app.run(main)
