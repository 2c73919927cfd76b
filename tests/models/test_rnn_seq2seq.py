"""Recurrent encoder-decoders: equality with PyTorch's layers in logits and gradients, the cache, and both searches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dl.decoding.beam import search
from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate
from dl.models.rnn_seq2seq import EncoderDecoder

SOURCE = np.array([[3, 1, 4, 1, 5], [9, 2, 6, -1, -1], [5, 3, -1, -1, -1]], np.int32)
TARGET = np.random.default_rng(0).integers(0, 17, (3, 7)).astype(np.int32)
TEXTS = {'source': SOURCE, 'target': TARGET}
MODEL = EncoderDecoder(vocab_size=13, target_vocab_size=17, width=6, embedding=5)
KINDS = {
  'Luong': dict(cell='lstm', layers=2, bidirectional=False, score='dot'),
  'general': dict(cell='gru', layers=2),
  'fed': dict(cell='lstm', input_feeding=True, tie_embeddings=True),
  'Bahdanau': dict(cell='gru', score='additive'),
  'additive': dict(cell='lstm', layers=2, score='additive'),
}
ROWS = [pytest.param(k, marks=[pytest.mark.thorough] * (k in ('Luong', 'additive'))) for k in KINDS]
EACH = pytest.mark.parametrize('kind', ROWS)


def made(kind, scale=0.5):
  """(a model, its variables, so large that logits differ)."""
  model = MODEL.copy(**KINDS[kind])
  params = model.init(jax.random.key(0), TEXTS)
  noise = lambda path, x: x + scale * jax.random.normal(jax.random.key(len(str(path))), x.shape)
  return model, jax.tree_util.tree_map_with_path(noise, params)


def pytorch(model, params):
  """(PyTorch, logits of TEXTS, path -> what has the gradient of that parameter), of PyTorch's layers."""
  torch = pytest.importorskip('torch')
  leaves = {}

  def leaf(*path):
    value = params
    for name in path:
      value = value[name]
    return leaves.setdefault(path, torch.tensor(np.array(value), requires_grad=True))

  linear = lambda *path: lambda x: torch.nn.functional.linear(x, leaf(*path, 'kernel').T, bias(*path))
  has_bias = lambda path: path[-1] == 'out' or path[-1] == 'readout' or path[-1].startswith('bridge')
  bias = lambda *path: leaf(*path, 'bias') if has_bias(path) else None

  def cell_weights(*path):
    """The four tensors of a cell of PyTorch, made of ours."""
    given, held = leaf(*path, 'input', 'bias'), torch.zeros(model.width * {'gru': 3, 'lstm': 4}[model.cell])
    if model.cell == 'gru':
      held = torch.cat([held[: 2 * model.width], leaf(*path, 'hidden', 'bias')])
    return leaf(*path, 'input', 'kernel').T, leaf(*path, 'hidden', 'kernel').T, given, held

  def cell(path, x, state):
    """One step of one layer: `torch.nn.GRUCell` or `LSTMCell`; a state is (output,) or (output, memory)."""
    weights = dict(zip(('weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'), cell_weights(*path), strict=True))
    module = (torch.nn.GRUCell if model.cell == 'gru' else torch.nn.LSTMCell)(x.shape[1], model.width)
    new = torch.func.functional_call(module, weights, (x, state[0] if model.cell == 'gru' else state))
    return (new,) if model.cell == 'gru' else new

  def encode(row):
    """(outputs, last states) of one source, which has no padding."""
    x, states = leaf('token', 'embedding')[row].unsqueeze(0), []
    for i in range(model.layers):
      outputs = []
      for name in (f'layer_{i}', f'layer_{i}_reverse')[: 1 + model.bidirectional]:
        kind = torch.nn.GRU if model.cell == 'gru' else torch.nn.LSTM
        names = ('weight_ih_l0', 'weight_hh_l0', 'bias_ih_l0', 'bias_hh_l0')
        weights = dict(zip(names, cell_weights('encoder', name), strict=True))
        back = name.endswith('reverse')
        module = kind(x.shape[-1], model.width, batch_first=True)
        y, last = torch.func.functional_call(module, weights, (x.flip(1) if back else x,))
        outputs.append(y.flip(1) if back else y)
        states.append(tuple(part[0] for part in (last if isinstance(last, tuple) else (last,))))
      x = torch.cat(outputs, -1)
    if not model.bidirectional:
      return x, states
    both = lambda i, j: torch.cat([states[2 * i][j], states[2 * i + 1][j]], -1)
    bridge = lambda i, j, name: linear(f'bridge_{i}_{name}')(both(i, j))
    first = [(torch.tanh(bridge(i, 0, 'output')),) for i in range(model.layers)]
    return x, [s + ((bridge(i, 1, 'memory'),) if model.cell == 'lstm' else ()) for i, s in enumerate(first)]

  def attend(state, memory):
    if model.score == 'additive':
      hidden = torch.tanh(linear('decoder', 'query')(state).unsqueeze(1) + linear('key')(memory))
      scores = linear('decoder', 'score')(hidden)[..., 0]
    else:
      scores = ((memory if model.score == 'dot' else linear('key')(memory)) * state.unsqueeze(1)).sum(-1)
    return (torch.softmax(scores, -1).unsqueeze(-1) * memory).sum(1)

  def step(x, states, fed, memory):
    """(features, states) of one token."""
    given = attend(states[-1][0], memory) if model.score == 'additive' else None
    extra = given if given is not None else fed if model.input_feeding else x[:, :0]
    y, new = torch.cat([x, extra], -1), []
    for i, state in enumerate(states):
      new.append(cell(('decoder', 'rnn', f'layer_{i}'), y, state))
      y = new[-1][0]
    if model.score == 'additive':
      pairs = linear('decoder', 'readout')(torch.cat([y, given, x], -1))
      return torch.maximum(pairs[:, 0::2], pairs[:, 1::2]), new
    return torch.tanh(linear('decoder', 'join')(torch.cat([attend(y, memory), y], -1))), new

  logits = []
  for source, target in zip(SOURCE, TARGET, strict=True):
    memory, states = encode(torch.tensor(source[source >= 0]).long())
    y, row = torch.zeros(1, model.embedding if model.tie_embeddings else model.width), []
    for token in target:
      y, states = step(leaf('target', 'embedding')[int(token)].unsqueeze(0), states, y, memory)
      row.append(y @ leaf('target', 'embedding').T if model.tie_embeddings else linear('out')(y))
    logits.append(torch.cat(row))
  return torch, torch.stack(logits), leaves


@EACH
def test_logits_and_gradients_equal_pytorch(kind):
  model, ours = made(kind)
  _, logits, leaves = pytorch(model, ours['params'])
  (logits**2).mean().backward()

  def loss(v):
    logits = model.apply(v, TEXTS)
    return (logits**2).mean(), logits

  (_, found), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(ours)
  np.testing.assert_allclose(found, logits.detach(), rtol=1e-4, atol=1e-5)
  flat = {tuple(k.key for k in path): g for path, g in jax.tree_util.tree_leaves_with_path(grads['params'])}
  assert set(flat) == set(leaves)  # every parameter has a part in the logits
  for path, gradient in flat.items():
    wanted = leaves[path].grad.numpy()
    np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-5 * max(1, np.abs(wanted).max()), err_msg=str(path))


@EACH
def test_cached_logits_equal_those_of_the_whole_target(kind):
  model, ours = made(kind)
  step = jax.jit(model.step)
  assert isinstance(model, Decoder)
  whole = model.apply(ours, TEXTS)
  logits, cache = model.prefill(ours, TARGET[:, :2], source=SOURCE)
  for at in range(2, 7):
    np.testing.assert_allclose(logits, whole[:, at - 1], rtol=1e-4, atol=1e-5)
    logits, cache = step(ours, cache, TARGET[:, at])
  np.testing.assert_allclose(logits, whole[:, 6], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', ['general', 'Bahdanau'])
def test_weights_of_attention_are_shares_of_the_real_source(kind):
  model, ours = made(kind)
  _, seen = model.apply(ours, TEXTS, mutable=['attention'])
  (weights,) = seen['attention']['decoder']['weights']
  assert 'attention' not in ours
  weights = np.asarray(weights)[:, 0]
  assert weights.shape == (3, 7, 5)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
  assert (np.asarray(weights)[np.broadcast_to(SOURCE[:, None] < 0, weights.shape)] == 0).all()
  assert np.asarray(weights)[:, :, 0].std() > 0.01  # and they differ


@pytest.mark.parametrize('kind', ['fed'])
def test_greedy_and_beam_search_read_the_source_of_each_row(kind):
  model, ours = made(kind, 2.0)
  start = np.zeros((3, 1), np.int32)
  greedy = generate(model, ours, start, jax.random.key(0), 0.0, {'source': SOURCE}, length=6)
  written, apply = start, jax.jit(model.apply)
  for _ in range(6):
    best = apply(ours, {'source': SOURCE, 'target': written})[:, -1].argmax(-1)
    written = np.concatenate([written, np.asarray(best, np.int32)[:, None]], 1)
  np.testing.assert_array_equal(greedy, written[:, 1:])
  assert len({tuple(row) for row in greedy.tolist()}) > 1  # not the same of all sources
  together, scores = search(model, ours, start, {'source': SOURCE}, length=6, width=3)
  for row in range(3):
    alone, score = search(model, ours, start[:1], {'source': SOURCE[row : row + 1]}, length=6, width=3)
    np.testing.assert_array_equal(together[row], alone[0])
    np.testing.assert_allclose(scores[row], score[0], rtol=1e-4)


def test_what_is_random_is_so_in_training_alone():
  for kind in ('general', 'Bahdanau'):
    model = MODEL.copy(**KINDS[kind] | dict(layers=2, dropout=0.5, dtype=jnp.bfloat16))
    params = model.init(jax.random.key(0), TEXTS)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype('float32')}
    train = lambda key, model=model, params=params: model.apply(params, TEXTS, train=True, rngs={'dropout': key})
    one, two = train(jax.random.key(0)), train(jax.random.key(1))
    assert one.dtype == jnp.float32 and np.isfinite(one).all() and not np.allclose(one, two)
    np.testing.assert_array_equal(model.apply(params, TEXTS), model.copy(dropout=0.0).apply(params, TEXTS))


def test_mistakes():
  key = jax.random.key(0)
  with pytest.raises(ValueError, match="input_feeding: of the scores 'dot' and 'general' alone"):
    MODEL.copy(score='additive', input_feeding=True).init(key, TEXTS)
  with pytest.raises(ValueError, match='score: a product of 6 features and 12; take another score'):
    MODEL.copy(score='dot').init(key, TEXTS)
  model, ours = made('general')
  with pytest.raises(ValueError, match='the first call needs a source'):
    model.prefill(ours, TARGET)
  _, cache = model.prefill(ours, TARGET, source=SOURCE)
  with pytest.raises(ValueError, match='cannot go back to an earlier token'):
    model.forget(cache, jnp.ones((), jnp.int32))
