"""Language modelling: learning, exact masks, likelihoods, samples."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from supervised_fit import evaluate, fit, init

from dl.contract.info import Info
from dl.contract.state import State
from dl.data.tokenizers.vocabulary import decode
from dl.decoding import beam
from dl.decoding.sampling import generate
from dl.errors import ConfigError
from dl.models.bert import BERT
from dl.models.gpt import GPT
from dl.models.mamba import Mamba
from dl.models.rnn import RNN, RecurrentLanguageModel
from dl.models.tagger import BiLSTMTagger
from dl.tasks.lm import LanguageModel
from dl.training.assemble import abstractly

KEY = jax.random.key(0)
TEXT = b'def add(a, b):\n  return a + b\n\n' * 40
BYTES = Info(vocab_size=256)
LENGTH = 32


def made(**options):
  model = GPT(vocab_size=256, length=LENGTH, layers=2, heads=2, width=32, use_bias=False)
  return LanguageModel(model=model, info=BYTES, **options)


@functools.cache
def untrained():
  """The task, fresh parameters, and its loss and gradients as one compiled function of (params, batch)."""
  task = made()
  params, extra = jax.jit(task.init)(KEY, next(windows(0, 1)))
  run = jax.value_and_grad(lambda p, b: task.loss(p, extra, b, KEY, True), has_aux=True)
  return task, params, jax.jit(run)


def windows(seed, steps, size=16):
  rng, tokens = np.random.default_rng(seed), np.frombuffer(TEXT, np.uint8).astype(np.int32)
  for _ in range(steps):
    starts = rng.integers(0, len(tokens) - LENGTH - 1, size)
    yield {'tokens': tokens[starts[:, None] + np.arange(LENGTH + 1)], 'mask': np.ones(size, np.float32)}


@functools.cache
def learned():
  task = made(prompt='def ', sample_length=40, temperature=0.1)
  state, last = fit(task, list(windows(0, 250)), optax.adamw(optax.cosine_decay_schedule(5e-3, 250)))
  return task, state, last


@pytest.mark.thorough
def test_learns_a_repeating_text_and_goes_on_with_it():
  task, state, last = learned()
  found = evaluate(task, state, list(windows(1, 4)))
  assert last['loss'] < 0.2 and found['loss'] < 0.5 and found['accuracy'] > 0.85
  assert found['perplexity'] == pytest.approx(np.exp(found['loss']), rel=1e-5)
  assert found['bits_per_character'] == pytest.approx(found['loss'] / np.log(2), rel=1e-5)
  texts = task.sample(state, KEY, 3, prompt='def add(', length=60, temperature=0.0)
  assert len(texts) == 3 and len(set(texts)) == 1
  assert texts[0].startswith('def add(a, b):\n  return a + b\n')
  before = generate._cache_size()
  task.sample(state, jax.random.key(5), 3, prompt='def abc(', length=60, temperature=0.7)
  assert generate._cache_size() == before
  artifact = task.artifacts(state, KEY)['samples']
  assert artifact.count('def ') >= 4 and artifact.count('-' * 80) == 3
  assert all(len(t) <= 60 for t in task.sample(state, KEY, 3, length=60))


def test_before_training_the_loss_is_that_of_a_uniform_guess():
  _, params, run = untrained()
  (scalar, _), _ = run(params, next(windows(0, 1)))
  assert float(scalar) == pytest.approx(np.log(256), abs=0.05)


def test_loss_is_that_of_each_next_token():
  task, params, run = untrained()
  batch = next(windows(0, 1))
  (scalar, (_, found)), _ = run(params, batch)
  logits = jax.jit(task.model.apply)({'params': params['model']}, batch['tokens'][:, :-1])
  p = np.asarray(jax.nn.softmax(logits), np.float64)
  picked = np.take_along_axis(p, batch['tokens'][:, 1:, None], 2)
  assert float(scalar) == pytest.approx(-np.log(picked).mean(), rel=1e-5)
  assert found['bits_per_character'].compute() == pytest.approx(-np.log2(picked).mean(), rel=1e-5)


def test_padded_rows_and_tokens_change_nothing():
  _, params, run = untrained()
  clean = next(windows(0, 1))
  short = {'tokens': clean['tokens'].copy(), 'mask': np.repeat([1.0, 0.0], [6, 10]).astype(np.float32)}
  short['tokens'][2, 20:] = -1
  spoiled = {'tokens': short['tokens'].copy(), 'mask': short['mask']}
  spoiled['tokens'][6:] = 10**6
  a, b = run(params, short), run(params, spoiled)
  jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6), a, b)
  assert a[0][1][1]['loss'].weight == 5 * LENGTH + 19
  alone = {'tokens': short['tokens'][:6], 'mask': np.ones(6, np.float32)}
  jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-4, atol=1e-6), a, run(params, alone))


@pytest.mark.thorough  # what it has learned is scored
def test_predict_scores_each_token_once():
  task, state, _ = learned()
  text = np.frombuffer(TEXT[: 2 * LENGTH + 8], np.uint8).astype(np.int32)
  garbage = np.random.default_rng(0).integers(0, 256, len(text)).astype(np.int32)
  short = np.where(np.arange(len(text)) < 11, text, -1)
  out = jax.jit(task.predict)(state, np.stack([text, garbage, short]), KEY)
  assert out['tokens'].tolist() == [len(text) - 1, len(text) - 1, 10]
  assert out['bits_per_character'][0] < 1.5 < 7 < out['bits_per_character'][1]
  np.testing.assert_allclose(out['bits_per_character'], -out['log_likelihood'] / out['tokens'] / np.log(2), rtol=1e-5)
  apply, expected = jax.jit(task.model.apply), 0.0
  for begin in range(0, len(text) - 1, LENGTH):
    window = text[begin : begin + LENGTH + 1]
    logits = apply({'params': state.params['model']}, np.resize(window[:-1], (1, LENGTH)))[:, : len(window) - 1]
    expected += np.take_along_axis(np.asarray(jax.nn.log_softmax(logits))[0], window[1:, None], 1).sum()
  assert float(out['log_likelihood'][0]) == pytest.approx(expected, rel=1e-4)
  alone = jax.jit(task.predict)(state, text[None, :11], KEY)
  assert float(alone['log_likelihood'][0]) == pytest.approx(float(out['log_likelihood'][2]), rel=1e-4)


@pytest.mark.parametrize('model', [RecurrentLanguageModel(512, width=8, layers=1), Mamba(512, width=8, layers=1)])
def test_a_long_text_is_scored_without_the_logits_of_all(model):
  task = LanguageModel(model=model, info=Info(vocab_size=512))
  state = init(task, {'tokens': jnp.zeros((1, 3), jnp.int32), 'mask': jnp.ones(1)}, optax.sgd(0.0))
  text = np.random.default_rng(0).integers(0, 512, (2, 8193)).astype(np.int32)
  text[1, 300:] = -1
  compiled = jax.jit(task.predict).lower(state, text, KEY).compile()
  assert compiled.memory_analysis().temp_size_in_bytes < 2 * 8192 * 512 * 4 / 8
  found = compiled(state, text, KEY)
  logits = jax.jit(task.model.apply)({'params': state.params['model']}, np.maximum(text[:, :-1], 0))
  nats = optax.softmax_cross_entropy_with_integer_labels(logits, np.maximum(text[:, 1:], 0))
  expected = jnp.where(text[:, 1:] >= 0, nats, 0.0).sum(1)
  np.testing.assert_allclose(-found['log_likelihood'], expected, rtol=1e-5)
  assert found['tokens'].tolist() == [8192, 299]


def test_a_text_that_is_too_long_to_be_read_at_once_is_refused():
  task = LanguageModel(model=Bigram(), info=BYTES)
  state = init(task, next(windows(0, 1)), optax.sgd(0.0))
  with pytest.raises(ConfigError, match='Bigram reads texts of 3,000,000 tokens at once, and 2 of them give 1,535'):
    jax.eval_shape(task.predict, state, jax.ShapeDtypeStruct((2, 3_000_000), jnp.int32), KEY)


def test_words_have_no_bits_per_character_and_a_larger_model_never_draws_beyond_them():
  words = Info(vocab_size=3, vocabulary=('the', 'cat', 'sat'))
  task = LanguageModel(model=GPT(vocab_size=64, length=8, layers=1, heads=1, width=8), info=words)
  batch = {'tokens': jnp.ones((2, 9), jnp.int32), 'mask': jnp.ones(2)}
  state = init(task, batch, optax.sgd(0.1))
  assert set(evaluate(task, state, [batch])) == {'loss', 'perplexity', 'accuracy'}
  (text,) = task.sample(state, KEY, 1, length=12)
  assert len(text.split()) == 12 and set(text.split()) <= {'the', 'cat', 'sat'}
  for text in task.sample(state, KEY, 8, prompt='cat sat', length=12, stop='sat', top_p=0.9, min_p=0.01):
    assert text.count('sat') <= 2 and text.startswith('cat sat ')  # that of the prompt ends nothing
    assert len(text.split()) == 14 or text.endswith('sat')
  best, second = task.sample(state, KEY, 2, prompt='cat', length=4, beams=3)
  tokens, _ = beam.search(
    task.model, {'params': state.params['model']}, jnp.array([[1]]), length=4, width=3, vocab_size=3
  )
  assert [best, second] == ['cat ' + decode(row, words) for row in np.asarray(tokens[0, :2])]
  for options, line in (
    (dict(beams=3, top_k=2), 'sample.top_k: nothing is drawn with beams'),
    (dict(beams=3, temperature=0.7), 'sample.temperature: nothing is drawn with beams'),
    (dict(length_penalty=2.0), 'sample.length_penalty: has no use without beams'),
    (dict(drafted=3), 'sample.drafted: has no use without draft'),
    (dict(beams=1), 'sample.beams: 1 beams find as many texts, not 2; ask for fewer'),
    (dict(beams=2, length=9), 'sample.length: a context of 8 tokens does not hold 1 of the prompt and 9 more'),
  ):
    with pytest.raises(ConfigError, match=line):
      task.sample(state, KEY, 2, **{'prompt': 'cat', 'length': 4} | options)
  with pytest.raises(ConfigError, match="prompt: word 2, 'dog', is not in the vocabulary"):
    task.sample(state, KEY, 1, prompt='the dog')
  for draw in (task.sample, lambda state, key, _, prompt: list(task.stream(state, key, prompt))):
    with pytest.raises(ConfigError, match='prompt: has 9 tokens, and the model reads 8 at most; shorten it'):
      draw(state, KEY, 1, prompt='the cat sat ' * 3)
  for option, line in (
    (dict(top_k=0), 'top_k: must be at least 1, got 0'),
    (dict(length=0), 'length: must be at'),
    (dict(top_p=1.5), 'top_p: must be'),
  ):
    with pytest.raises(ConfigError, match=f'sample.{line}'):
      task.sample(state, KEY, 1, **option)
  with pytest.raises(ConfigError, match=r'config\.task\.sample_length: must be at least 1, got 0'):
    dataclasses.replace(task, sample_length=0)


@pytest.mark.parametrize(
  'model, shape, line',
  [
    (dict(vocab_size=100), (4, 33), 'config.model.vocab_size is 100, but the data has 256 token ids'),
    (dict(length=16), (4, 33), 'config.model.length is 16, but the data has sequences of 32 tokens'),
    (dict(heads=5), (4, 33), 'config.model: 5 heads do not divide'),
    ({}, (4, 1), r'config.data: tokens must be \[batch, length \+ 1\]'),
  ],
)
def test_check_is_one_line(model, shape, line):
  gpt = GPT(**(dict(vocab_size=256, length=32, layers=1, heads=2, width=8) | model))
  batch = {'tokens': jax.ShapeDtypeStruct(shape, np.int32), 'mask': jax.ShapeDtypeStruct(shape[:1], np.float32)}
  with pytest.raises(ConfigError, match=line):
    abstractly(lambda: LanguageModel(model=gpt, info=BYTES).check(batch))
  with pytest.raises(ConfigError, match='LanguageModel needs tokens in a batch, got mask'):
    LanguageModel(model=gpt, info=BYTES).check({'mask': batch['mask']})


@pytest.mark.parametrize(
  'model',
  [
    RNN(256, vocab_size=256, width=8, pooling='none', bidirectional=True),
    BERT(vocab_size=256, length=32, layers=1, heads=2, width=8, hidden=8),
    BiLSTMTagger(256, vocab_size=256, crf=False),
  ],
)
def test_a_model_that_sees_what_it_is_to_predict_is_refused(model):
  batch = {'tokens': jax.ShapeDtypeStruct((4, 17), np.int32), 'mask': jax.ShapeDtypeStruct((4,), np.float32)}
  with pytest.raises(ConfigError, match=f'{type(model).__name__} reads in both directions; a token is to be predicted'):
    LanguageModel(model=model, info=BYTES).check(batch)


class Bigram(nn.Module):
  """A table of logits: no decoder."""

  @nn.compact
  def __call__(self, tokens, train=False):
    return nn.Embed(256, 256)(tokens)


def test_a_model_that_is_no_decoder_is_trained_and_not_sampled_from():
  task, batch = LanguageModel(model=Bigram(), info=BYTES), next(windows(0, 1))
  task.check(batch)
  state = init(task, batch, optax.sgd(0.1))
  assert set(evaluate(task, state, [batch])) >= {'loss', 'accuracy'} and task.artifacts(state, KEY) == {}
  with pytest.raises(ConfigError, match=r'config\.model: Bigram cannot be sampled from: it needs length, prefill and'):
    task.sample(state, KEY, 1)


class Recurrent(nn.Module):
  """A decoder without a longest text: its cache is the state of a recurrent layer."""

  length: int | None = None

  @nn.compact
  def read(self, tokens, state=None):
    layer = nn.RNN(nn.SimpleCell(8), return_carry=True, name='cell')
    state, x = layer(nn.Embed(256, 8, name='token')(tokens), initial_carry=state)
    return nn.Dense(256, name='out')(x), state

  def __call__(self, tokens, train=False):
    return self.read(tokens)[0]

  @nn.nowrap
  def prefill(self, variables, tokens, state=None):
    logits, state = self.apply(variables, tokens, state, method='read')
    return logits[:, -1], state

  @nn.nowrap
  def step(self, variables, cache, tokens):
    return self.prefill(variables, tokens[:, None], cache)


def test_a_decoder_of_any_length_scores_and_writes_texts():
  task, batch = LanguageModel(model=Recurrent(), info=BYTES), next(windows(0, 1))
  task.check(batch)
  params, extra = jax.jit(task.init)(KEY, batch)
  state = State(step=jnp.int32(0), params=params, opt={}, extra=extra)
  tokens = np.frombuffer(TEXT[: 3 * LENGTH], np.uint8).astype(np.int32)

  @jax.jit
  def scored(state):
    logits = task.model.apply({'params': state.params['model']}, tokens[None, :-1])
    return task.predict(state, tokens[None], KEY), -optax.softmax_cross_entropy_with_integer_labels(
      logits, tokens[None, 1:]
    )

  out, expected = scored(state)
  assert out['tokens'].tolist() == [3 * LENGTH - 1]
  assert float(out['log_likelihood'][0]) == pytest.approx(float(expected.sum()), rel=1e-5)
  (text,) = task.sample(state, KEY, 1, prompt='def ', length=2 * LENGTH)
  assert text.startswith('def ')
