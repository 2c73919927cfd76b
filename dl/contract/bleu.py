"""BLEU of a corpus as a metric: texts add as other metrics' sums do."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from dl.contract.metrics import Metric
from dl.errors import ConfigError

How = tuple[Callable[[Int[np.ndarray, ' n']], str], str, bool, int]


@flax.struct.dataclass
class Bleu(Metric):
  """BLEU of a corpus: its sums are the texts themselves, which are joined where others are added.

  Attributes:
    written: token ids + 1 [n, length]; 0 for none.
    references: UTF-8 of all references of a text [n, references bytes]; 0 for none.
    real: 1 for each text that counts [n, 1].
    how: what makes a text of token ids, sacrebleu's tokenizer, whether capitals do not count, and how many references
      there are.
  """

  better = 'max'
  written: Any
  references: Any
  real: Any
  how: How = flax.struct.field(pytree_node=False)

  @classmethod
  def of(cls, written: Int[Array, 'b n'], references: Int[Array, 'b r bytes'], mask: Array, how: How) -> Self:
    """Of a batch; rows whose mask is 0 count for nothing."""
    real = (mask > 0)[:, None]
    flat = references.reshape(len(references), -1)
    return cls(jnp.where(real, written + 1, 0), jnp.where(real, flat, 0), real.astype(jnp.uint8), how)

  def merge(self, other: Self) -> Self:
    return self.summed([self, other])

  @classmethod
  def summed(cls, parts: Sequence[Self]) -> Self:
    join = lambda name: np.concatenate([np.asarray(getattr(part, name)) for part in parts], -2)
    return parts[0].replace(**{name: join(name) for name in ('written', 'references', 'real')})

  def compute(self) -> float:
    decode, tokenize, lowercase, count = self.how
    real = np.asarray(self.real)[:, 0] > 0
    if not real.any():
      return float('nan')
    written = [decode(row - 1) for row in np.asarray(self.written, np.int32)[real]]
    references = np.asarray(self.references, np.uint8)[real].reshape(len(written), count, -1)
    texts = [[bytes(text).rstrip(b'\0').decode() or None for text in row] for row in references]
    return scorer(tokenize, lowercase).corpus_score(written, list(zip(*texts, strict=True))).score / 100


def scorer(tokenize: str, lowercase: bool) -> Any:
  """sacrebleu's BLEU; raises ConfigError where it is not installed, or knows no such tokenizer."""
  try:
    from sacrebleu.metrics import BLEU
  except ImportError as e:
    raise ConfigError("bleu: needs the package sacrebleu: pip install 'dl[text]'") from e
  if tokenize not in BLEU.TOKENIZERS:
    raise ConfigError(f'tokenize: sacrebleu has no {tokenize!r}, but {", ".join(sorted(BLEU.TOKENIZERS))}')
  return BLEU(tokenize=tokenize, lowercase=lowercase)
