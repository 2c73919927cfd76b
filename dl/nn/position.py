"""Positions: waves of them, distances between them, and learned embeddings on a grid, brought to another grid."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Grid = tuple[int, int]
"""(rows, columns)."""

_MOST_PREFIX = 8  # tokens before the grid: a class token, a distillation token, registers


def sinusoidal(positions: Int[Array, ' n'], width: int) -> Float[Array, 'n width']:
  """Sines (even features) and cosines (odd ones) of positions, of wavelengths from 2 pi to 20,000 pi (1706.03762)."""
  angles = positions[:, None] * 10_000.0 ** (-jnp.arange(0, width, 2) / width)
  return jnp.stack([jnp.sin(angles), jnp.cos(angles)], -1).reshape(len(positions), width)


def buckets(query: Int[Array, ' q'], key: Int[Array, ' k'], count: int, most: int, both: bool) -> Int[Array, 'q k']:
  """The number of the bucket of each distance between two positions (T5, arXiv 1910.10683).

  Half of them are for one distance each, the others for ever more distances, up to `most` and beyond. Their borders are
  computed on the host in float32, as published weights have it: a device may round logarithms otherwise.

  Args:
    query: positions that look.
    key: positions that are looked at.
    count: number of buckets; a multiple of 4, or of 2 where not `both`.
    most: the distance from which on all are alike.
    both: whether keys behind a query have buckets of their own, the second half; otherwise they are as near as can be.
  """
  count = count // 2 if both else count
  exact = count // 2
  distance = np.arange(most + 1)
  far = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact)) / np.float32(math.log(most / exact))
  far = np.minimum(exact + (far * np.float32(count - exact)).astype(np.int32), count - 1)
  table = jnp.asarray(np.where(distance < exact, distance, far), jnp.int32)
  ahead = key[None, :] - query[:, None]
  behind = jnp.abs(ahead) if both else jnp.maximum(-ahead, 0)
  return table[jnp.minimum(behind, most)] + (count * (ahead > 0) if both else 0)


def bucket_bias(
  query: Int[Array, ' q'], key: Int[Array, ' k'], embedding: Float[Array, 'count heads'], most: int, both: bool
) -> Float[Array, '1 heads q k']:
  """What a learned number of each bucket and head adds to scores: a hook for `Attention.bias`."""
  return jnp.moveaxis(embedding[buckets(query, key, len(embedding), most, both)], -1, 0)[None]


def resample(embedding: Float[Array, '1 n d'], source: Grid, target: Grid, prefix: int = 0) -> Float[Array, '1 m d']:
  """Embeddings of a grid's places, row by row, interpolated to another grid (ViT, arXiv 2010.11929).

  The interpolation is bicubic in float32, smoothed where the grid becomes coarser, as timm does it.

  Args:
    embedding: one row a token.
    source: the grid they are made for.
    target: the grid they are needed for.
    prefix: tokens before the grid's, such as a class token, which stay as they are.
  """
  before, places = embedding[:, :prefix], embedding[:, prefix:]
  if source == target:
    return embedding
  d = embedding.shape[-1]
  places = places.reshape(1, *source, d).astype(jnp.float32)
  places = jax.image.resize(places, (1, *target, d), 'bicubic').reshape(1, -1, d)
  return jnp.concatenate([before, places.astype(embedding.dtype)], axis=1)


def fit(embedding: Float[Array, '1 n d'], tokens: int) -> Float[Array, '1 m d']:
  """Embeddings of a square grid for another number of tokens on a square grid; the tokens before the grid are inferred.

  Args:
    embedding: one row a token.
    tokens: how many are needed.

  Raises:
    ValueError: the numbers of tokens are not those of two squares with equally many tokens before them.
  """
  n = embedding.shape[1]
  if n == tokens:
    return embedding
  for prefix in range(min(_MOST_PREFIX, n - 1, tokens - 1) + 1):
    source, target = math.isqrt(n - prefix), math.isqrt(tokens - prefix)
    if source**2 == n - prefix and target**2 == tokens - prefix:
      return resample(embedding, (source, source), (target, target), prefix)
  raise ValueError(
    f'position embeddings of {n} tokens do not fit {tokens}: not two square grids after the same class tokens'
  )
