"""A run knows its data again: what may differ, and what is the same whatever the machine."""

import itertools
import json

import numpy as np
import pytest

from dl.contract.info import Info
from dl.data import fingerprint
from dl.data.fingerprint import Fingerprint, facts_changed
from dl.data.parts import part
from dl.data.pipeline import Pipeline
from dl.data.source import Arrays
from dl.data.sources.series import Windows
from dl.data.sources.text import TextFiles


def columns(n=200):
  rng = np.random.default_rng(0)
  return dict(image=rng.integers(0, 256, (n, 4, 4, 1), np.uint8), label=rng.integers(0, 3, n).astype(np.int32))


class OneByOne:
  """The same, an example at a time."""

  def __init__(self, values, fails=(), noise=None):
    self.values, self.fails, self.noise = values, fails, noise

  def __len__(self):
    return len(self.values['label'])

  def __getitem__(self, index):
    if index in self.fails:
      raise OSError('gone')
    example = {name: column[index] for name, column in self.values.items()}
    return example if self.noise is None else example | {'features': np.float32([next(self.noise)])}


def of(source):
  return fingerprint.of(Pipeline(source, 8))


@pytest.mark.parametrize('kind', [Arrays, OneByOne])
def test_the_same_data_have_the_same_fingerprint(kind):
  before = of(kind(columns()))
  again = Fingerprint.from_json(json.loads(json.dumps(before.to_json())))
  assert again == before == of(kind(columns())) and len(before.hashes) == 64 and before.examples == 200
  assert before.whole == (kind is Arrays) and before.changed(again) is None
  parts = [of(part(kind(columns()), name, test=50)) for name in ('train', 'test')]
  assert [p.examples for p in parts] == [150, 50] and len(parts[1].hashes) == 50
  assert parts[0] == of(part(kind(columns()), 'train', test=50))


@pytest.mark.parametrize('kind', [Arrays, OneByOne])
def test_other_data_are_told_apart(kind):
  before, inverted = of(kind(columns())), columns()
  inverted['image'] = 255 - inverted['image']
  whose = 'examples from 0 on' if kind is Arrays else 'example 0'
  assert before.changed(of(kind(inverted))) == f'other values ({whose}, and 63 more of 64 places)'
  assert before.changed(of(kind(columns(199)))) == '199 examples, not 200'
  shape = columns() | {'image': columns()['image'].reshape(200, 2, 8, 1)}
  assert before.changed(of(kind(shape)))
  renamed = columns()
  renamed['other'] = renamed.pop('image')
  assert before.changed(of(kind(renamed)))


def test_one_pixel_of_data_in_memory_shows():
  other = columns()
  other['image'][199, 3, 3, 0] ^= 1
  assert (
    of(Arrays(columns())).changed(of(Arrays(other))) == 'other values (examples from 196 on, and 0 more of 64 places)'
  )


def test_of_large_data_the_beginning_of_each_stretch_counts(monkeypatch):
  monkeypatch.setattr(fingerprint, 'BYTES', 200 * 20 // 2)  # half of them
  before, first, last = of(Arrays(columns())), columns(), columns()
  first['image'][0] ^= 1
  last['image'][199] ^= 1
  assert not before.whole
  assert before.changed(of(Arrays(first))) == 'other values (example 0, and 0 more of 64 places)'
  assert before.changed(of(Arrays(last))) is None


def test_an_example_which_cannot_be_read_says_nothing():
  before, holes = of(OneByOne(columns())), of(OneByOne(columns(), fails=(0, 3)))
  assert len(holes.hashes) == 62 and Fingerprint.from_json(holes.to_json()) == holes
  assert before.changed(holes) is None and holes.changed(before) is None
  assert of(OneByOne(columns(), fails=range(200))).hashes == {}


def test_a_source_which_draws_at_random_has_only_its_number_of_examples():
  assert of(OneByOne(columns(), noise=itertools.count())) == Fingerprint(200, False, {})


def test_statistics_are_compared_but_for_their_last_digits():
  before = Info(mean=(0.5, 2.0), std=(1.0, 1.0), class_counts=(3, 4), num_classes=2, target_mean=1.0)
  assert facts_changed(before, before) is None
  assert facts_changed(before, Info(mean=(0.5, 2.0 + 1e-7))) is None
  assert facts_changed(before, Info(mean=(0.5, 2.1))) == 'mean is 2.1000, was 2 (number 1)'
  assert facts_changed(before, Info(target_mean=1.5)) == 'target_mean is 1.5000, was 1'
  assert facts_changed(before, Info(class_counts=(3, 5))) == 'class_counts is 5, was 4 (number 1)'
  assert facts_changed(before, Info(class_counts=(3, 4, 1))) == '3 class_counts, not 2'
  assert facts_changed(before, Info(num_classes=3)) == 'num_classes is 3, was 2'


def test_one_character_of_a_text_is_seen(tmp_path):
  """Windows in memory are hashed whole, and not in 64 places."""
  text = 'to be or not to be\n' * 1000
  for name, content in (('a', text), ('b', text[:9001] + '?' + text[9002:])):
    (tmp_path / f'{name}.txt').write_text(content)
  before, same, other = (of(TextFiles(str(tmp_path / f'{name}.txt'), 16)) for name in 'aab')
  assert before.whole and before.changed(same) is None
  assert 'other values (examples from' in before.changed(other) and '0 more of 64' in before.changed(other)
  values = np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
  window = lambda v: of(Windows(v, 8, 4, (0, 500), 1, (0, 1), Info()))
  moved = values.copy()
  moved[250, 1] += 1
  assert window(values).changed(window(values.copy())) is None and window(values).changed(window(moved))
