"""BERT: published counts, equality with Hugging Face's with each head, and what pads."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl.models.bert import BERT
from dl.training import start

TINY = dict(vocab_size=31, length=16, layers=2, heads=4, width=24, hidden=40)
RNG = np.random.default_rng(0)
LENGTHS = np.array([11, 7, 3])
REAL = np.arange(11) < LENGTHS[:, None]
TOKENS = np.where(REAL, RNG.integers(0, 31, (3, 11)), -1)
SEGMENTS = (np.arange(11) >= 2).astype(np.int32) * np.ones((3, 1), np.int32)


@pytest.mark.parametrize(
  ('options', 'count'),
  [
    (dict(head='pooled'), 109_482_240),
    (dict(head='masked'), 109_514_298),
    (dict(head='pooled', layers=24, heads=16, width=1024, hidden=4096), 335_141_888),
  ],
)
def test_parameter_counts(options, count):
  params = jax.eval_shape(BERT(**options).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == count


@functools.cache
def hugging_face(name, **options):
  """(PyTorch, a tiny BERT of transformers whose weights are large enough that its outputs differ)."""
  torch = pytest.importorskip('torch')
  transformers = reference.transformers()
  config = transformers.BertConfig(
    vocab_size=31, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
    max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    attn_implementation='eager', pad_token_id=None, **options,
  )  # fmt: skip
  torch.manual_seed(0)
  theirs = getattr(transformers, name)(config).eval()
  with torch.no_grad():
    for p in theirs.parameters():
      p.copy_(torch.randn_like(p) * 0.3 + (p.ndim == 1))
  return torch, theirs


def converted(tensors, model):
  like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  return start.convert(tensors, like, model=model, layout='huggingface')


@pytest.mark.parametrize(
  ('name', 'options', 'ours', 'output'),
  [
    ('BertForMaskedLM', {}, dict(head='masked'), 'logits'),
    ('BertModel', {}, dict(head='pooled'), 'pooler_output'),
    ('BertModel', {}, dict(head='features'), 'last_hidden_state'),
    ('BertForSequenceClassification', dict(num_labels=5), dict(head='pooled', num_outputs=5), 'logits'),
    ('BertForTokenClassification', dict(num_labels=5), dict(head='each', num_outputs=5), 'logits'),
    ('BertForPreTraining', {}, dict(head='masked'), 'prediction_logits'),
  ],
)
def test_outputs_and_gradients_equal_hugging_face(name, options, ours, output):
  torch, theirs = hugging_face(name, **options)
  model = BERT(**TINY, **ours)
  variables = converted({k: v.detach().numpy() for k, v in theirs.state_dict().items()}, model)
  given = dict(attention_mask=torch.tensor(REAL * 1), token_type_ids=torch.tensor(SEGMENTS))
  expected = getattr(theirs(torch.tensor(np.maximum(TOKENS, 0)), **given), output)
  real = REAL[..., None] if expected.ndim == 3 else np.ones((3, 1), bool)
  apply = lambda v: jnp.where(real, model.apply(v, TOKENS, segments=SEGMENTS), 0.0)
  wanted = np.where(real, expected.detach(), 0.0)
  np.testing.assert_allclose(jax.jit(apply)(variables), wanted, rtol=1e-3, atol=1e-4)
  theirs.zero_grad()
  ((expected * torch.tensor(real)) ** 2).mean().backward()
  size = expected.numel()
  grads = jax.jit(jax.grad(lambda v: (apply(v) ** 2).sum() / size))(variables)
  tensors = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in theirs.named_parameters()}
  wanted = converted({k: v.numpy() for k, v in tensors.items()}, model)
  close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4 * max(np.abs(b).max(), 1e-3))
  jax.tree.map(close, grads, wanted)


def test_what_pads_is_seen_by_none():
  model = BERT(**TINY, head='each', num_outputs=3)
  variables = model.init(jax.random.key(0), jnp.asarray(TOKENS))
  run = jax.jit(lambda t: model.apply(variables, t))
  alone = run(TOKENS[1:2, :7])
  np.testing.assert_allclose(run(TOKENS)[1:2, :7], alone, rtol=1e-5, atol=1e-5)
  params = {'params': variables['params']}
  mean = lambda t: model.clone(head='mean').apply(params, t)  # the same layer, of the mean: that of what it gives
  np.testing.assert_allclose(mean(TOKENS)[1:2], alone.mean(1), rtol=1e-5, atol=1e-5)


def test_old_names_and_scanned_blocks():
  _, theirs = hugging_face('BertForMaskedLM')
  old = {'LayerNorm.weight': 'LayerNorm.gamma', 'LayerNorm.bias': 'LayerNorm.beta'}
  tensors = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
  renamed = {functools.reduce(lambda k, pair: k.replace(*pair), old.items(), k): v for k, v in tensors.items()}
  model = BERT(**TINY)
  variables = converted(renamed, model)
  jax.tree.map(np.testing.assert_array_equal, variables, converted(tensors, model))
  params = dict(variables['params'])
  blocks = [params.pop(f'block_{i}') for i in range(2)]
  params['blocks'] = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
  scanned = model.clone(scan=True, remat='full').apply({'params': params}, TOKENS)
  np.testing.assert_allclose(scanned, model.apply(variables, TOKENS), rtol=1e-4, atol=1e-4)


def test_mistakes():
  for options, says in (
    (dict(head='masked', num_outputs=3), "num_outputs: of the heads 'pooled', 'mean' and 'each', got 3 with 'masked'"),
    (dict(head='each'), "num_outputs: of the heads 'pooled', 'mean' and 'each', got None with 'each'"),
    (dict(heads=5), '5 heads do not divide a width of 24'),
    (dict(length=4), 'a length of 4, but there are 11 tokens to read'),
  ):
    with pytest.raises(ValueError, match=says):
      BERT(**TINY | options).init(jax.random.key(0), jnp.asarray(TOKENS))
