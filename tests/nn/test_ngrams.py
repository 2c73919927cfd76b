"""Hashed n-gram embeddings: what a position sees, and the cache."""

import jax
import jax.numpy as jnp
import numpy as np

from dl.decoding.sampling import generate
from dl.models.gpt import GPT
from dl.nn.ngrams import HashedNgrams, hashes


def test_an_embedding_depends_on_the_last_tokens_alone():
  tokens = jnp.asarray([[5, 6, 7, 8], [9, 6, 7, 8]])
  module = HashedNgrams(orders=(2, 3), buckets=2**12, width=4)
  out = module.apply(module.init(jax.random.key(0), tokens), tokens)
  np.testing.assert_array_equal(out[0, 3], out[1, 3])  # 6 7 8 in both
  assert not np.allclose(out[0, 1], out[1, 1])  # 5 6 and 9 6
  assert not np.allclose(out[0, 2], out[1, 2])  # 5 6 7 and 9 6 7


def test_hashes_spread_over_the_buckets():
  tokens = np.random.default_rng(0).integers(0, 256, (1, 20_000)).astype(np.uint32) + 1
  found = np.asarray(hashes(jnp.asarray(tokens), 3, 19_998)) % 256
  counts = np.bincount(found.ravel(), minlength=256)
  assert counts.min() > 40 and counts.max() < 130  # 78 expected


def test_generation_with_the_cache_equals_reading_all_again():
  model = GPT(vocab_size=11, length=8, layers=1, heads=2, width=16, ngrams=(2, 4), ngram_buckets=64)
  prompt = jnp.asarray([[1, 2, 3]], jnp.int32)
  variables = jax.jit(model.init)(jax.random.key(0), prompt)
  variables = jax.tree.map(lambda p: p * 5, variables)
  made = generate(model, variables, prompt, jax.random.key(1), 0.0, length=7)  # past the context of 8
  text = jnp.concatenate([prompt, made], axis=1)
  read = jax.jit(model.apply)
  # What each position sees is before it, so that one look at all has every choice.
  np.testing.assert_array_equal(made[:, :6], read(variables, text[:, :8])[:, 2:].argmax(-1))
  # Its second half, positions 4 to 7, was read again, and then position 8.
  assert made[0, 6] == read(variables, text[:, 4:9])[0, -1].argmax()
