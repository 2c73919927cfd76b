"""Mamba: equality with Hugging Face's, the scan with a loop, and a memory that goes on where a text was left."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl.decoding.decoder import Decoder
from dl.decoding.sampling import generate
from dl.models.mamba import Mamba
from dl.nn.state_space import selective_scan
from dl.training import start

TINY = dict(vocab_size=31, layers=2, width=24, states=5, chunk=4)
RNG = np.random.default_rng(0)
TOKENS = RNG.integers(0, 31, (3, 13))


def test_parameter_count():
  params = jax.eval_shape(Mamba(scan=True).init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))['params']
  assert sum(x.size for x in jax.tree.leaves(params)) == 129_135_360


@pytest.mark.parametrize('chunk', [1, 3, 64])
def test_the_scan_is_the_recurrence(chunk):
  x, step = RNG.normal(size=(2, 10, 4)), RNG.uniform(0.1, 1.0, (2, 10, 4))
  decay, state = -RNG.uniform(0.1, 2.0, (4, 3)), RNG.normal(size=(2, 4, 3))
  enter, leave = RNG.normal(size=(2, 2, 10, 3))
  h, outputs = state, []
  for t in range(10):
    h = np.exp(step[:, t, :, None] * decay) * h + (step * x)[:, t, :, None] * enter[:, t, None]
    outputs.append((h * leave[:, t, None]).sum(-1))
  arrays = [jnp.asarray(v, jnp.float32) for v in (x, step, decay, enter, leave, state)]
  y, last = jax.jit(functools.partial(selective_scan, chunk=chunk))(*arrays)
  np.testing.assert_allclose(y, np.stack(outputs, 1), rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(last, h, rtol=1e-4, atol=1e-5)


@functools.cache
def hugging_face():
  """(PyTorch, a tiny Mamba of transformers whose weights are large enough that its logits differ)."""
  torch = pytest.importorskip('torch')
  transformers = reference.transformers()
  config = transformers.MambaConfig(
    vocab_size=31, hidden_size=24, state_size=5, num_hidden_layers=2, expand=2, conv_kernel=4, use_mambapy=False,
    pad_token_id=None, bos_token_id=None, eos_token_id=None,
  )  # fmt: skip
  torch.manual_seed(0)
  theirs = transformers.MambaForCausalLM(config).eval()
  with torch.no_grad():
    for name, p in theirs.named_parameters():
      if not name.endswith('A_log'):
        p.copy_(torch.randn_like(p) * 0.3 + (p.ndim == 1))
  return torch, theirs


def converted(tensors, model):
  like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  return start.convert(tensors, like, model=model, layout='huggingface')


def ours(model):
  _, theirs = hugging_face()
  return converted({k: v.detach().numpy() for k, v in theirs.state_dict().items()}, model)


def test_logits_and_gradients_equal_hugging_face():
  torch, theirs = hugging_face()
  model = Mamba(**TINY)
  variables = ours(model)
  expected = theirs(torch.tensor(TOKENS)).logits
  np.testing.assert_allclose(jax.jit(model.apply)(variables, TOKENS), expected.detach(), rtol=1e-3, atol=1e-4)
  theirs.zero_grad()
  (expected**2).mean().backward()
  grads = jax.jit(jax.grad(lambda v: (model.apply(v, TOKENS) ** 2).mean()))(variables)
  wanted = converted({k: p.grad.numpy() for k, p in theirs.named_parameters()}, model)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-4 * np.abs(b).max()), grads, wanted)


@pytest.mark.parametrize('scan', [False, True])
def test_a_text_goes_on_where_it_was_left(scan):
  model, variables = Mamba(**TINY), ours(Mamba(**TINY))
  whole = jax.jit(model.apply)(variables, TOKENS)
  if scan:
    params = dict(variables['params'])
    blocks = [params.pop(f'block_{i}') for i in range(2)]
    model = Mamba(**TINY, scan=True, remat='full')
    variables = {'params': params | {'blocks': jax.tree.map(lambda *x: jnp.stack(x), *blocks)}}
    np.testing.assert_allclose(jax.jit(model.apply)(variables, TOKENS), whole, rtol=1e-4, atol=1e-4)
  assert isinstance(model, Decoder)
  logits, cache = model.prefill(variables, TOKENS[:, :2])
  np.testing.assert_allclose(logits, whole[:, 1], rtol=1e-3, atol=1e-4)
  step = jax.jit(model.step)
  for at in range(2, 13):
    logits, cache = step(variables, cache, TOKENS[:, at])
    np.testing.assert_allclose(logits, whole[:, at], rtol=1e-3, atol=1e-4)


def test_greedy_continuations_equal_hugging_face():
  torch, theirs = hugging_face()
  model = Mamba(**TINY)
  options = dict(max_new_tokens=10, do_sample=False, pad_token_id=0, eos_token_id=None)
  expected = theirs.generate(torch.tensor(TOKENS[:, :4]), **options).numpy()
  new = generate(model, ours(model), TOKENS[:, :4], jax.random.key(0), 0.0, length=10)
  np.testing.assert_array_equal(new, expected[:, 4:])


def test_a_later_token_changes_nothing_earlier():
  model, other = Mamba(**TINY), np.array(TOKENS)
  other[:, 8:] = (other[:, 8:] + 1) % 31
  run = jax.jit(functools.partial(model.apply, ours(model)))
  np.testing.assert_allclose(run(other)[:, :8], run(TOKENS)[:, :8], rtol=1e-5, atol=1e-5)
