"""What is written, beside what is to be written: BLEU of sacrebleu itself, exact matches, and a table."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.contract import metrics
from dl.contract.bleu import Bleu
from dl.contract.metrics import Mean
from dl.contract.task import Task
from dl.data.source import Arrays
from dl.data.sources.pairs import _bytes
from dl.errors import ConfigError
from dl.evaluators.decoded import Decoded
from dl.training import padding

WORDS = ('<eos>', 'the', 'cat', 'sat', 'on', 'mat', '.', 'Dog')
WRITTEN = np.array([[1, 2, 3, 4, 1, 5, 6], [1, 7, 3, 6, -1, -1, -1], [2, -1, -1, -1, -1, -1, -1]])
REFERENCES = [
  ['the cat sat on the mat.', 'The cat sat on a mat .', 'the cat was on the mat.'],
  ['The dog sat.'],
  ['cat on the mat', 'the cat'],
]


def text(tokens):
  return ' '.join(WORDS[t] for t in tokens if t > 0)


def bleu(rows, real=None, how=('13a', False)):
  real = np.ones(len(rows)) if real is None else np.asarray(real)
  references = jnp.asarray(_bytes(REFERENCES)[rows])
  return jax.device_get(Bleu.of(jnp.asarray(WRITTEN[rows]), references, jnp.asarray(real), (text, *how, 3)))


@pytest.mark.parametrize('how', [('13a', False), ('13a', True), ('char', False)])
def test_bleu_is_that_of_sacrebleu_however_the_set_is_cut(how):
  sacrebleu = pytest.importorskip('sacrebleu')
  texts = ['the cat sat on the mat .', 'the Dog sat .', 'cat']
  columns = [[row[i] if i < len(row) else None for row in REFERENCES] for i in range(3)]
  expected = sacrebleu.corpus_bleu(texts, columns, tokenize=how[0], lowercase=how[1]).score / 100
  whole = bleu([0, 1, 2], how=how)
  assert whole.compute() == pytest.approx(expected, abs=1e-9) and 0.1 < expected < 1
  parts = [{'bleu': bleu(rows, real, how)} for rows, real in (([2, 0], [1, 1]), ([1, 0], [1, 0]))]
  assert metrics.compute(metrics.total(parts))['bleu'] == pytest.approx(expected, abs=1e-9)
  assert np.isnan(bleu([0], [0], how).compute())


class Fixed(Task):
  """Writes `WRITTEN`, by the first token of a source."""

  end = 0
  source_text = target_text = staticmethod(text)

  def search(self, state, source, beams, length_penalty):
    return jnp.asarray(WRITTEN)[source[:, 0]], jnp.zeros(len(source))


TASK = Fixed(model=None)
TARGETS = np.array([[1, 2, 3, 4, 1, 5, 6, 0], [1, 7, 3, 0, -1, -1, -1, -1], [2, 0, -1, -1, -1, -1, -1, -1]])
SET = Arrays({'source': np.arange(3)[:, None], 'target_tokens': TARGETS, 'references': _bytes(REFERENCES)})
BATCH = SET[np.arange(3)] | {'mask': np.ones(3, np.float32)}


def test_exact_matches_and_a_table_with_what_is_wrong_first():
  judge = Decoded(bleu=True, shown=2)
  numbers = metrics.compute(jax.device_get(judge.measure(TASK, None, BATCH, None)))
  assert numbers == {'exact_match': pytest.approx(2 / 3), 'bleu': pytest.approx(bleu([0, 1, 2]).compute())}
  examined = jax.device_get(judge.examine(TASK, None, BATCH, None))
  assert examined['right'].tolist() == [True, False, True]
  table = judge.findings(TASK, examined, lambda index: SET[index])['written']
  assert table[0] == {'source': 'the', 'written': 'the Dog sat .', 'target': 'the Dog sat', 'right': False}
  assert [row['right'] for row in table] == [False, True]
  narrow = BATCH | {'target_tokens': TARGETS[:, :4]}  # of a bucket that is shorter than what is written
  assert metrics.compute(jax.device_get(Decoded().measure(TASK, None, narrow, None))) == {
    'exact_match': pytest.approx(1 / 3)
  }


def test_rows_that_pad_a_batch_count_for_nothing():
  judge = Decoded(bleu=True)
  one, other = padding._with_padding(BATCH)
  first, second, nothing = (
    jax.device_get(judge.measure(TASK, None, b, None)) for b in (one, other, BATCH | {'mask': np.zeros(3)})
  )
  assert all(padding._same(first[name], second[name]) for name in first)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing)) and isinstance(nothing['exact_match'], Mean)


def test_what_is_missing_is_said_in_a_line(monkeypatch):
  with pytest.raises(ConfigError, match='Decoded measures what Seq2Seq writes, and Task does not'):
    Decoded().measure(Task(model=None), None, BATCH, None)
  without = {k: v for k, v in BATCH.items() if k != 'references'}
  with pytest.raises(ConfigError, match='bleu: needs the references of a source; set references=True'):
    Decoded(bleu=True).measure(TASK, None, without, None)
  with pytest.raises(ConfigError, match="tokenize: sacrebleu has no 'words', but 13a, char"):
    Decoded(bleu=True, tokenize='words')
  monkeypatch.setitem(sys.modules, 'sacrebleu.metrics', None)
  with pytest.raises(ConfigError, match=r"bleu: needs the package sacrebleu: pip install 'dl\[text\]'"):
    Decoded(bleu=True)
