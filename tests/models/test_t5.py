"""T5: published counts, equality with Hugging Face's (logits, gradients, greedy and beam search), and the cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl.decoding.beam import search
from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate
from dl.errors import ConfigError
from dl.models.t5 import T5
from dl.nn.position import buckets
from dl.training import start

TINY = T5(vocab_size=31, length=16, layers=2, heads=3, head_dim=6, width=20, hidden=26, buckets=8, distance=6)
SOURCE = np.random.default_rng(0).integers(2, 31, (3, 11)).astype(np.int32)
SOURCE[1, 7:], SOURCE[2, 4:] = -1, -1
TARGET = np.random.default_rng(1).integers(0, 31, (3, 9)).astype(np.int32)
TEXTS = {'source': SOURCE, 'target': TARGET}
KINDS = [dict(), dict(gated=True, tie_embeddings=False)]
"""T5, and T5 1.1."""


@pytest.mark.parametrize(
  ('options', 'count'),
  [
    ({}, 60_506_624),
    (dict(layers=12, heads=12, width=768, hidden=3072), 222_903_552),
    (dict(layers=8, heads=6, hidden=1024, gated=True, tie_embeddings=False), 76_961_152),
  ],
)
def test_parameter_counts(options, count):
  texts = {name: jnp.zeros((1, 2), jnp.int32) for name in TEXTS}
  params = jax.eval_shape(T5(**options, scan=True).init, jax.random.key(0), texts)['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == count


@functools.cache
def hugging_face(gated=False, tie_embeddings=True):
  """(PyTorch, a tiny T5 of transformers whose weights are large enough that its logits differ)."""
  torch = pytest.importorskip('torch')
  transformers = reference.transformers()
  config = transformers.T5Config(
    vocab_size=31, d_model=20, d_kv=6, d_ff=26, num_layers=2, num_heads=3, relative_attention_num_buckets=8,
    relative_attention_max_distance=6, feed_forward_proj='gated-gelu' if gated else 'relu', dropout_rate=0.0,
    tie_word_embeddings=tie_embeddings, decoder_start_token_id=0,
  )  # fmt: skip
  torch.manual_seed(0)
  theirs = transformers.T5ForConditionalGeneration(config).eval()
  if not tie_embeddings:  # what the config says is then whether logits are scaled, and no more
    theirs.lm_head.weight = torch.nn.Parameter(theirs.lm_head.weight.clone())
  with torch.no_grad():
    for p in theirs.parameters():
      p.copy_(torch.randn_like(p) * 0.4 + (p.ndim == 1))
  return torch, theirs


def converted(tensors, model):
  return start.convert(tensors, jax.eval_shape(model.init, jax.random.key(0), TEXTS), model=model, layout='huggingface')


def read_by(torch):
  """The source, as transformers takes it."""
  return dict(input_ids=torch.tensor(np.maximum(SOURCE, 0)).long(), attention_mask=torch.tensor(SOURCE >= 0).long())


@pytest.mark.parametrize('kind', KINDS, ids=['t5', 't5 1.1'])
def test_logits_and_gradients_equal_hugging_face(kind):
  torch, theirs = hugging_face(**kind)
  model = TINY.clone(dropout=0.0, **kind)
  ours = converted({k: v.detach().numpy() for k, v in theirs.state_dict().items()}, model)
  expected = theirs(**read_by(torch), decoder_input_ids=torch.tensor(TARGET).long()).logits
  np.testing.assert_allclose(jax.jit(model.apply)(ours, TEXTS), expected.detach(), rtol=1e-3, atol=1e-4)
  theirs.zero_grad()
  (expected**2).mean().backward()
  grads = jax.jit(jax.grad(lambda v: (model.apply(v, TEXTS) ** 2).mean()))(ours)
  wanted = converted({k: p.grad.numpy() for k, p in theirs.named_parameters()}, model)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()), grads, wanted)


@pytest.mark.parametrize('kind', [pytest.param(KINDS[0], marks=pytest.mark.thorough), KINDS[1]], ids=['t5', 't5 1.1'])
def test_a_file_of_hugging_face_loads_and_is_searched_token_for_token(kind, tmp_path):
  torch, theirs = hugging_face(**kind)
  theirs.save_pretrained(tmp_path)
  model = TINY.clone(dropout=0.0, **kind)
  tensors = start.read(tmp_path / 'model.safetensors')
  ours = converted(tensors, model)
  begin, options = np.zeros((3, 1), np.int32), dict(max_new_tokens=10, do_sample=False, pad_token_id=0)
  expected = theirs.generate(**read_by(torch), **options, eos_token_id=None).numpy()
  greedy = generate(model, ours, begin, jax.random.key(0), 0.0, {'source': SOURCE}, length=10)
  np.testing.assert_array_equal(greedy, expected[:, 1:])
  assert len({tuple(row) for row in greedy.tolist()}) == 3
  expected = theirs.generate(
    **read_by(torch), **options, eos_token_id=1, num_beams=4, num_return_sequences=4, length_penalty=0.8,
    early_stopping=False,
  ).numpy()  # fmt: skip
  found, _ = search(model, ours, begin, {'source': SOURCE}, length=10, width=4, stop=1, length_penalty=0.8)
  for ours_row, row in zip(np.asarray(found).reshape(12, 10), expected[:, 1:].tolist(), strict=True):
    text = row[: row.index(1) + 1] if 1 in row else row  # what they write behind the end is of no account
    assert ours_row.tolist() == text + [-1] * (10 - len(text))
  with pytest.raises(ConfigError, match='missing decoder_distance/embedding'):
    name = 'decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    converted({k: v for k, v in tensors.items() if k != name}, model)


@pytest.mark.parametrize('both', [True, False])
@pytest.mark.parametrize(('count', 'most'), [(32, 128), (8, 6), (64, 300)])
def test_buckets_equal_hugging_face(both, count, most):
  torch, theirs = hugging_face()
  where = np.arange(700)
  ahead = torch.tensor(where[None, :] - where[:, None])
  attention = theirs.encoder.block[0].layer[0].SelfAttention
  wanted = attention._relative_position_bucket(ahead, bidirectional=both, num_buckets=count, max_distance=most)
  np.testing.assert_array_equal(buckets(where, where, count, most, both), wanted)


def drawn(model):
  variables = model.init(jax.random.key(0), TEXTS)
  return jax.tree.map(lambda p: p * 1.5, variables)


@pytest.mark.parametrize('options', [{}, dict(scan=True, remat='full', gated=True)])
def test_cached_logits_equal_uncached_and_a_later_token_changes_nothing(options):
  model = TINY.clone(**options)
  variables, apply = drawn(model), jax.jit(model.apply)
  assert isinstance(model, Decoder)
  whole = apply(variables, TEXTS)
  logits, cache = model.prefill(variables, TARGET[:, :2], source=SOURCE)
  step = jax.jit(model.step)
  for at in range(2, 9):
    np.testing.assert_allclose(logits, whole[:, at - 1], rtol=1e-4, atol=1e-4)
    logits, cache = step(variables, cache, TARGET[:, at])
  np.testing.assert_allclose(logits, whole[:, 8], rtol=1e-4, atol=1e-4)
  changed = TEXTS | {'target': np.concatenate([TARGET[:, :4], (TARGET[:, 4:] + 1) % 31], 1)}
  np.testing.assert_array_equal(apply(variables, changed)[:, :4], whole[:, :4])
  alone = apply(variables, {'source': SOURCE[2:, :4], 'target': TARGET[2:]})
  np.testing.assert_allclose(whole[2:], alone, rtol=1e-4, atol=1e-4)


def test_scanned_and_rematerialized_blocks_give_the_gradients_of_plain_ones():
  plain = TINY.clone(dropout=0.0)
  variables = drawn(plain)
  stacked = {k: v for k, v in variables['params'].items() if k[-1] not in '01'}
  for side in ('encoder', 'decoder'):
    parts = [variables['params'][f'{side}_{i}'] for i in range(2)]
    stacked[f'{side}s'] = jax.tree.map(lambda *x: jnp.stack(x), *parts)
  gradient = lambda model: jax.jit(jax.grad(lambda p: (model.apply({'params': p}, TEXTS) ** 2).mean()))
  wanted = gradient(plain)(variables['params'])
  for model, params in (
    (plain.clone(remat='dots'), variables['params']),
    (plain.clone(scan=True, remat='full'), stacked),
  ):
    found = gradient(model)(params)
    for name in ('token', 'encoder_distance', 'decoder_distance'):
      a, b = found[name]['embedding'], wanted[name]['embedding']
      np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5 * np.abs(b).max())


def test_dropout_draws_while_training_alone():
  variables = drawn(TINY)
  draw = lambda seed: TINY.apply(variables, TEXTS, train=True, rngs={'dropout': jax.random.key(seed)})
  assert (draw(0) != draw(1)).any() and (draw(0) == draw(0)).all()


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(buckets=6), 'buckets: must be a multiple of 4, got 6'),
    (dict(distance=4), 'distance: must be above half of the 8 buckets, got 4'),
    (dict(length=8), 'a length of 8, but there are 9 tokens'),
  ],
)
def test_mistakes(options, message):
  with pytest.raises(ValueError, match=message):
    TINY.clone(**options).init(jax.random.key(0), TEXTS)
