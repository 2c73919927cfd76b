"""The encoder-decoder Transformer: the paper's counts, equality with PyTorch's, the cache, and both searches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.decoding.beam import search
from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate
from dl.models.seq2seq import Transformer

MODEL = Transformer(vocab_size=13, target_vocab_size=17, length=12, layers=2, heads=3, width=18, hidden=22, dropout=0.0)
SOURCE = np.array([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1], [5, 3, -1, -1, -1]], np.int32)
TARGET = np.random.default_rng(0).integers(0, 17, (3, 7)).astype(np.int32)
TEXTS = {'source': SOURCE, 'target': TARGET}


def variables(scale=0.3):
  """Weights so large that logits differ, with biases and scales of all norms drawn, too."""
  params = MODEL.init(jax.random.key(0), TEXTS)
  leaves, tree = jax.tree.flatten(params)
  keys = jax.random.split(jax.random.key(1), len(leaves))
  return jax.tree.unflatten(
    tree, [x + scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
  )


@pytest.mark.parametrize(
  ('options', 'count'), [({}, 63_082_496), (dict(width=1024, heads=16, hidden=4096), 214_245_376)]
)
def test_parameter_counts(options, count):
  texts = {name: jnp.zeros((1, 2), jnp.int32) for name in TEXTS}
  params = jax.eval_shape(Transformer(**options, scan=True).init, jax.random.key(0), texts)['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == count


def pytorch(params):
  """(PyTorch, its encoder and decoder with these parameters)."""
  torch = pytest.importorskip('torch')
  common = dict(dropout=0.0, batch_first=True)
  sides = {
    'encoder': torch.nn.TransformerEncoder(
      torch.nn.TransformerEncoderLayer(18, 3, 22, **common), 2, enable_nested_tensor=False
    ),
    'decoder': torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(18, 3, 22, **common), 2),
  }
  tensor = lambda x: torch.tensor(np.array(x))
  for side, network in sides.items():
    for i, layer in enumerate(network.layers):
      block, state = params[f'{side}_{i}'], {}
      names = {'attention': 'self_attn', 'across': 'multihead_attn'}
      for ours, theirs in names.items():
        if ours in block:
          part = block[ours]
          for what, leaf in (('weight', 'kernel'), ('bias', 'bias')):
            state[f'{theirs}.in_proj_{what}'] = tensor(np.concatenate([np.array(part[n][leaf]).T for n in 'qkv']))
            state[f'{theirs}.out_proj.{what}'] = tensor(np.array(part['out'][leaf]).T)
      for ours, theirs in (('up', 'linear1'), ('down', 'linear2')):
        state |= {f'{theirs}.weight': tensor(block[ours]['kernel']).T, f'{theirs}.bias': tensor(block[ours]['bias'])}
      for n in range(3 if side == 'decoder' else 2):
        norm = block[f'norm_{n}']
        state |= {f'norm{n + 1}.weight': tensor(norm['scale']), f'norm{n + 1}.bias': tensor(norm['bias'])}
      layer.load_state_dict(state)
    network.eval()
  return torch, sides


def test_logits_and_gradients_of_embeddings_equal_pytorch():
  ours = variables()
  torch, sides = pytorch(ours['params'])
  tables = {n: torch.tensor(np.array(ours['params'][n]['embedding']), requires_grad=True) for n in ('token', 'target')}

  def embed(table, ids):
    position, even = np.arange(ids.shape[1])[:, None], np.arange(0, 18, 2)
    waves = np.zeros((ids.shape[1], 18), np.float32)
    waves[:, 0::2], waves[:, 1::2] = np.sin(position / 10_000 ** (even / 18)), np.cos(position / 10_000 ** (even / 18))
    return table[torch.tensor(np.maximum(ids, 0)).long()] * 18**0.5 + torch.tensor(waves)

  padded = torch.tensor(SOURCE < 0)
  memory = sides['encoder'](embed(tables['token'], SOURCE), src_key_padding_mask=padded)
  later = torch.triu(torch.ones(7, 7, dtype=torch.bool), 1)
  y = sides['decoder'](embed(tables['target'], TARGET), memory, tgt_mask=later, memory_key_padding_mask=padded)
  logits = y @ tables['target'].T
  np.testing.assert_allclose(jax.jit(MODEL.apply)(ours, TEXTS), logits.detach(), rtol=1e-3, atol=1e-4)
  (logits**2).mean().backward()
  grads = jax.jit(jax.grad(lambda v: (MODEL.apply(v, TEXTS) ** 2).mean()))(ours)['params']
  for name, table in tables.items():
    wanted = table.grad.numpy()
    np.testing.assert_allclose(grads[name]['embedding'], wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
  kernel = sides['decoder'].layers[0].multihead_attn.in_proj_weight.grad.numpy()
  found = np.concatenate([grads['decoder_0']['across'][n]['kernel'].T for n in 'qkv'])
  np.testing.assert_allclose(found, kernel, rtol=1e-3, atol=1e-4 * np.abs(kernel).max())


def test_a_later_token_changes_nothing_before_it_and_padding_changes_nothing_at_all():
  ours, apply = variables(), jax.jit(MODEL.apply)
  whole = apply(ours, TEXTS)
  changed = apply(ours, TEXTS | {'target': np.concatenate([TARGET[:, :4], (TARGET[:, 4:] + 1) % 17], 1)})
  np.testing.assert_array_equal(whole[:, :4], changed[:, :4])
  assert (whole[:, 4:] != changed[:, 4:]).any()
  alone = apply(ours, {'source': SOURCE[2:, :2], 'target': TARGET[2:]})
  np.testing.assert_allclose(whole[2:], alone, rtol=1e-4, atol=1e-4)


def test_cached_logits_equal_those_of_the_whole_target():
  ours, step = variables(), jax.jit(MODEL.step)
  assert isinstance(MODEL, Decoder)
  whole = MODEL.apply(ours, TEXTS)
  logits, cache = MODEL.prefill(ours, TARGET[:, :2], source=SOURCE)
  for at in range(2, 7):
    np.testing.assert_allclose(logits, whole[:, at - 1], rtol=1e-3, atol=1e-4)
    logits, cache = step(ours, cache, TARGET[:, at])
  np.testing.assert_allclose(logits, whole[:, 6], rtol=1e-3, atol=1e-4)


def test_greedy_and_beam_search_read_the_source_of_each_row():
  ours, start = variables(), np.zeros((3, 1), np.int32)
  greedy = generate(MODEL, ours, start, jax.random.key(0), 0.0, {'source': SOURCE}, length=6)
  written, apply = start, jax.jit(MODEL.apply)
  for _ in range(6):
    best = apply(ours, {'source': SOURCE, 'target': written})[:, -1].argmax(-1)
    written = np.concatenate([written, np.asarray(best, np.int32)[:, None]], 1)
  np.testing.assert_array_equal(greedy, written[:, 1:])
  assert len({tuple(row) for row in greedy.tolist()}) > 1  # not the same of all sources
  of_one, _ = search(MODEL, ours, start, {'source': SOURCE}, length=6, width=1)
  np.testing.assert_array_equal(of_one[:, 0], greedy)
  together, scores = search(MODEL, ours, start, {'source': SOURCE}, length=6, width=3)
  for row in range(3):
    alone, score = search(MODEL, ours, start[:1], {'source': SOURCE[row : row + 1]}, length=6, width=3)
    np.testing.assert_array_equal(together[row], alone[0])
    np.testing.assert_allclose(scores[row], score[0], rtol=1e-4)
