"""Attention and its parts against the formulas written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.nn import attention
from dl.nn.attention import Attention, Projections, separate
from dl.nn.context import Context

WIDTH, HEADS, DIM, LENGTH = 12, 4, 3, 6


def written_out(params, x, memory=None, mask=None, bias=0.0, names=('q', 'k', 'v'), scale=DIM**-0.5):
  """Attention head by head, with kernels of their own for queries, keys and values."""
  q, k, v = (
    (x if name == names[0] or memory is None else memory) @ params[name]['kernel'] + params[name]['bias']
    for name in names
  )
  group = HEADS * DIM // k.shape[-1]
  heads = []
  for h in range(HEADS):
    a, b = slice(h * DIM, (h + 1) * DIM), slice(h // group * DIM, (h // group + 1) * DIM)
    scores = q[..., a] @ k[..., b].swapaxes(1, 2) * scale + bias
    if mask is not None:
      scores = jnp.where(mask, scores, -1e30)
    heads.append(jax.nn.softmax(scores) @ v[..., b])
  return jnp.concatenate(heads, -1) @ params['out']['kernel'] + params['out']['bias']


def drawn(module, x, context=None):
  """Parameters, biases and all; and the inputs."""
  params = module.init(jax.random.key(1), x, context or Context())['params']
  return jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), params)


def inputs(length=LENGTH, seed=0):
  return jax.random.normal(jax.random.key(seed), (2, length, WIDTH))


def close(a, b):
  np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def relative(queries, keys):
  """A bias of distance, as in ALiBi."""
  return -jnp.abs(queries[:, None] - keys)[None, None] / 2.0


@pytest.mark.parametrize('groups', [None, 2, 1])
def test_groups_of_heads_share_keys(groups):
  module, x = Attention(separate(HEADS, DIM, groups)), inputs()
  params = drawn(module, x)
  assert params['k']['kernel'].shape == (WIDTH, (groups or HEADS) * DIM)
  close(module.apply({'params': params}, x, Context()), written_out(params, x))


def test_groups_divide_the_heads():
  with pytest.raises(ValueError, match='3 heads of keys do not divide 4 of queries'):
    separate(HEADS, DIM, 3)


@pytest.mark.parametrize('chunk', [0, 2])
def test_hooks_masks_and_scale(chunk):
  halved = lambda query, key, positions: (query / 2, key * jnp.cos(positions)[:, None, None])
  module, x = Attention(separate(HEADS, DIM), causal=True, bias=relative, scale=0.7, chunk=chunk), inputs()
  params = drawn(module, x)
  real = jnp.arange(LENGTH) < jnp.array([[LENGTH], [4]])
  mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool)) & real[:, None]
  bias = relative(jnp.arange(LENGTH), jnp.arange(LENGTH))[0, 0]
  close(module.apply({'params': params}, x, Context(mask=real)), written_out(params, x, None, mask, bias, scale=0.7))
  hooked = module.copy(process_heads=halved, bias=None, causal=False)
  q, k = (params[name] for name in 'qk')
  turned = jnp.cos(jnp.arange(LENGTH))[:, None]
  by_hand = []
  for h in range(HEADS):
    a = slice(h * DIM, (h + 1) * DIM)
    query, key = (x @ q['kernel'] + q['bias'])[..., a] / 2, (x @ k['kernel'] + k['bias'])[..., a] * turned
    value = (x @ params['v']['kernel'] + params['v']['bias'])[..., a]
    by_hand.append(jax.nn.softmax(0.7 * query @ key.swapaxes(1, 2)) @ value)
  by_hand = jnp.concatenate(by_hand, -1) @ params['out']['kernel'] + params['out']['bias']
  close(hooked.apply({'params': params}, x, Context()), by_hand)


def test_across_reads_the_memory_once_while_decoding():
  module, x, memory = Attention(separate(HEADS, DIM), across=True), inputs(), inputs(5, seed=3)
  real = jnp.arange(5) < jnp.array([[5], [3]])
  context = Context(memory=memory, memory_mask=real)
  params = drawn(module, x, context)
  wanted = written_out(params, x, memory, real[:, None])
  close(module.apply({'params': params}, x, context), wanted)
  decode = lambda cache, x, context: module.apply({'params': params, **cache}, x, context, mutable=['cache'])
  first, cache = decode({}, x[:, :2], context.replace(decode=True))
  second, _ = decode(cache, x[:, 2:], Context(decode=True, positions=jnp.arange(2, LENGTH)))
  close(jnp.concatenate([first, second], 1), wanted)
  with pytest.raises(ValueError, match='the first call of decoding needs a memory'):
    decode({}, x, Context(decode=True))


def test_decoding_remembers_which_tokens_are_real():
  module, x = Attention(separate(HEADS, DIM, 2), causal=True, length=8, bias=relative), inputs()
  real = jnp.ones((2, LENGTH), bool).at[1, :2].set(False)  # padded on the left, from where nothing but padding looks
  params = drawn(module, x)
  whole = module.apply({'params': params}, x, Context(mask=real))
  cache, parts = {}, []
  for begin, end in ((0, 3), (3, 4), (4, 6)):
    context = Context(decode=True, positions=jnp.arange(begin, end), mask=real[:, begin:end])
    part, cache = module.apply({'params': params, **cache}, x[:, begin:end], context, mutable=['cache'])
    parts.append(part)
  ours = jnp.concatenate(parts, 1)
  close(ours[0], whole[0])
  close(ours[1, 2:], whole[1, 2:])
  with pytest.raises(ValueError, match='decoding needs a length'):
    module.copy(length=None).apply({'params': params}, x, Context(decode=True), mutable=['cache'])


def test_one_product_projects_queries_keys_and_values():
  module, x = Attention(lambda: Projections(HEADS, name='qkv'), causal=True), inputs()
  params = drawn(module, x)
  split = {name: {} for name in 'qkv'}
  for kind, array in params['qkv'].items():
    for name, part in zip('qkv', jnp.split(array, 3, -1), strict=True):
      split[name][kind] = part
  mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))
  close(module.apply({'params': params}, x, Context()), written_out(split | {'out': params['out']}, x, None, mask))


def test_rotary_turns_queries_and_keys():
  q, k = jax.random.normal(jax.random.key(0), (2, 1, 5, 2, 8))
  turned = attention.rotary(q, k, jnp.arange(5) + 3)
  for x, y in zip((q, k), turned, strict=True):
    angle = (np.arange(5) + 3)[:, None] * 10_000.0 ** -(np.arange(4) / 4)
    z = np.asarray(x[0, ..., :4] + 1j * x[0, ..., 4:]) * np.exp(1j * angle)[:, None]
    np.testing.assert_allclose(y[0], np.concatenate([z.real, z.imag], -1), rtol=1e-4, atol=1e-5)
