"""Llama: published counts, equality with Hugging Face's, and the cache."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate
from dl.errors import ConfigError
from dl.models.llama import Llama
from dl.training import start

TINY = dict(vocab_size=31, length=16, layers=2, heads=4, width=24, hidden=40)
TOKENS = np.random.default_rng(0).integers(0, 31, (3, 13))


@pytest.mark.parametrize(
  ('options', 'count'),
  [
    ({}, 6_738_415_616),
    (dict(vocab_size=128_256, length=131_072, groups=8, hidden=14_336, rope_base=5e5), 8_030_261_248),
  ],
)
def test_parameter_counts(options, count):
  model = Llama(**options, scan=True)
  params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == count


@functools.cache
def hugging_face(groups=4, tied=False, base=10_000.0):
  """(PyTorch, a tiny Llama of transformers whose weights are large enough that its logits differ)."""
  torch = pytest.importorskip('torch')
  transformers = reference.transformers()
  config = transformers.LlamaConfig(
    vocab_size=31, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=groups, max_position_embeddings=16, rms_norm_eps=1e-5, tie_word_embeddings=tied,
    rope_parameters={'rope_type': 'default', 'rope_theta': base}, attn_implementation='eager',
  )  # fmt: skip
  torch.manual_seed(0)
  theirs = transformers.LlamaForCausalLM(config).eval()
  with torch.no_grad():
    for p in theirs.parameters():
      p.copy_(torch.randn_like(p) * 0.3 + (p.ndim == 1))
  return torch, theirs


def converted(tensors, model):
  like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  return start.convert(tensors, like, model=model, layout='huggingface')


@pytest.mark.parametrize(('groups', 'tied', 'base'), [(4, False, 10_000.0), (2, False, 5e5), (1, True, 10_000.0)])
def test_logits_and_gradients_equal_hugging_face(groups, tied, base):
  torch, theirs = hugging_face(groups, tied, base)
  model = Llama(**TINY, groups=groups, tie_embeddings=tied, rope_base=base)
  ours = converted({k: v.detach().numpy() for k, v in theirs.state_dict().items()}, model)
  expected = theirs(torch.tensor(TOKENS)).logits
  np.testing.assert_allclose(jax.jit(model.apply)(ours, TOKENS), expected.detach(), rtol=1e-3, atol=1e-4)
  theirs.zero_grad()
  (expected**2).mean().backward()
  grads = jax.jit(jax.grad(lambda v: (model.apply(v, TOKENS) ** 2).mean()))(ours)
  wanted = converted({k: p.grad.numpy() for k, p in theirs.named_parameters()}, model)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()), grads, wanted)


def test_a_file_of_hugging_face_loads_and_continues_texts_token_for_token(tmp_path):
  torch, theirs = hugging_face(2)
  theirs.save_pretrained(tmp_path)
  model = Llama(**TINY, groups=2)
  assert isinstance(model, Decoder)
  variables = converted(start.read(tmp_path / 'model.safetensors'), model)
  prompt = TOKENS[:, :4]
  options = dict(max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
  expected = theirs.generate(torch.tensor(prompt), **options).numpy()
  ours = generate(model, variables, prompt, jax.random.key(0), 0.0, length=12)
  np.testing.assert_array_equal(ours, expected[:, 4:])
  with pytest.raises(ConfigError, match='missing out/kernel'):
    converted({k: v for k, v in start.read(tmp_path / 'model.safetensors').items() if k != 'lm_head.weight'}, model)


@pytest.mark.parametrize('options', [dict(scan=True), dict(groups=2)])
def test_cached_logits_equal_uncached_and_a_later_token_changes_nothing(options):
  model = Llama(**TINY, **options)
  variables = model.init(jax.random.key(0), TOKENS)
  variables = jax.tree.map(lambda p: p * 8 if p.ndim > 1 else p, variables)
  whole = jax.jit(model.apply)(variables, TOKENS)
  logits, cache = model.prefill(variables, TOKENS[:, :5])
  np.testing.assert_allclose(logits, whole[:, 4], rtol=1e-4, atol=1e-4)
  step = jax.jit(model.step)
  for at in range(5, 13):
    logits, cache = step(variables, cache, TOKENS[:, at])
    np.testing.assert_allclose(logits, whole[:, at], rtol=1e-4, atol=1e-4)
  other = np.array(TOKENS)
  other[:, 8:] = (other[:, 8:] + 1) % 31
  np.testing.assert_array_equal(jax.jit(model.apply)(variables, other)[:, :8], whole[:, :8])


def test_mistakes():
  with pytest.raises(ValueError, match='width: 4 heads need a multiple of 8, got 20'):
    Llama(**TINY | dict(width=20)).init(jax.random.key(0), TOKENS)
  with pytest.raises(ValueError, match='3 heads of keys do not divide 4 of queries'):
    Llama(**TINY, groups=3).init(jax.random.key(0), TOKENS)
  with pytest.raises(ValueError, match='a length of 16, but there are 17 tokens'):
    Llama(**TINY).init(jax.random.key(0), jnp.zeros((1, 17), jnp.int32))
