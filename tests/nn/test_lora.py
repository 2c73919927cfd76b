"""Adapters beside layers: equal to PyTorch's by hand and to peft's, in networks of each kind of layer with them."""

import functools

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl.decoding.sampling import generate
from dl.models.bert import BERT
from dl.models.gpt import GPT
from dl.models.mamba import Mamba
from dl.nn import lora
from dl.training import start

TINY = dict(vocab_size=31, length=16, layers=2, heads=4, width=24)
MODELS = {
  'bert': (BERT(**TINY, hidden=40, dropout=0.0), 'attention/(q|v)$', 4 * 3 * (24 + 24)),
  'gpt': (GPT(**TINY), 'qkv|down', 2 * 3 * (24 + 72 + 96 + 24)),
  'scanned': (GPT(**TINY, scan=True, remat='full'), 'attention/', 2 * 3 * (24 + 72 + 24 + 24)),
  'mamba': (Mamba(vocab_size=31, layers=2, width=24, states=4), '_1/mixer/in_proj', 3 * (24 + 96)),
}
TOKENS = np.random.default_rng(0).integers(0, 31, (3, 11))


class Layer(nn.Module):
  @nn.compact
  def __call__(self, x, train=False):
    return nn.Dense(1, use_bias=False, name='out')(x)


def drawn(model, seed=1):
  """Parameters, adapters among them, which are large enough that outputs differ."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)['params']
  rng = np.random.default_rng(seed)
  return jax.tree.map_with_path(
    lambda p, x: np.float32(rng.normal(1.0 if p[-1].key == 'scale' else 0.0, 0.3, x.shape)), shapes
  )


def with_adapters(name, **options):
  model, layers, _ = MODELS[name]
  return lora.adapted(model, lora.LoRA(layers=layers, rank=3, alpha=6, **options))


@pytest.mark.parametrize('name', MODELS)
def test_it_begins_as_the_network_and_is_merged_into_it(name):
  model, _, count = MODELS[name]
  both = with_adapters(name)
  assert isinstance(both, type(model)) and lora.plain(both) == model and both == with_adapters(name)
  fresh, params = both.init(jax.random.key(0), TOKENS)['params'], drawn(both)
  flat = flax.traverse_util.flatten_dict(fresh, sep='/')
  own = {path: x for path, x in flat.items() if path.endswith(('lora_a', 'lora_b'))}
  assert sum(x.size for x in own.values()) == count  # rank (in + out) of each layer
  assert all(x.any() != path.endswith('lora_b') for path, x in own.items())
  run = jax.jit(both.apply)
  np.testing.assert_array_equal(run({'params': fresh}, TOKENS), jax.jit(model.apply)({'params': fresh}, TOKENS))
  found, without = run({'params': params}, TOKENS), jax.jit(model.apply)({'params': params}, TOKENS)
  whole = lora.merged(both, params)
  assert jax.tree.structure(whole) == jax.tree.structure(lora.without(fresh))
  scale = np.abs(found).max()
  np.testing.assert_allclose(jax.jit(model.apply)({'params': whole}, TOKENS), found, rtol=1e-5, atol=1e-5 * scale)
  assert np.abs(found - without).max() > 0.01 * scale


def test_what_the_network_draws_is_what_it_drew_without():
  model, both = MODELS['bert'][0], with_adapters('bert')
  fresh = [m.init(jax.random.key(0), TOKENS)['params'] for m in (model, both)]
  jax.tree.map(np.testing.assert_array_equal, fresh[0], lora.without(fresh[1]))


def test_dropout_is_of_what_adapters_read_in_training_alone():
  both = with_adapters('bert', dropout=0.5)
  params = drawn(both)
  train = jax.jit(lambda p, key: both.apply({'params': p}, TOKENS, train=True, rngs={'dropout': key}))
  one, other = train(params, jax.random.key(0)), train(params, jax.random.key(1))
  assert np.abs(one - other).max() > 1e-3
  judged = jax.jit(both.apply)({'params': params}, TOKENS)
  np.testing.assert_array_equal(judged, jax.jit(with_adapters('bert').apply)({'params': params}, TOKENS))
  begun = jax.tree.map_with_path(lambda p, x: x * (p[-1].key != 'lora_b'), params)
  np.testing.assert_array_equal(train(begun, jax.random.key(0)), jax.jit(both.apply)({'params': begun}, TOKENS))
  dense = lora.adapted(Layer(), lora.LoRA(layers='', rank=1, dropout=0.25))
  ones = {'kernel': np.zeros((4000, 1)), 'lora_a': np.ones((4000, 1)) / 4000, 'lora_b': np.ones((1, 1))}
  y = dense.apply(
    {'params': {'out': ones}}, np.ones((1, 4000), np.float32), train=True, rngs={'dropout': jax.random.key(0)}
  )
  assert abs(float(y[0, 0]) - 1) < 0.05 and float(y[0, 0]) != 1  # in the mean as without


def test_texts_are_written_with_the_adapters():
  both = with_adapters('gpt')
  params = drawn(both)
  write = functools.partial(generate, prompt=TOKENS[:, :4], key=jax.random.key(0), choice=0.0, length=10)
  found = write(both, {'params': params})
  np.testing.assert_array_equal(found, write(lora.plain(both), {'params': lora.merged(both, params)}))
  assert (found != write(lora.plain(both), {'params': lora.without(params)})).any()


def torch_model(name):
  """(PyTorch, transformers' network, its tensors)."""
  torch, transformers = pytest.importorskip('torch'), reference.transformers()
  torch.manual_seed(0)
  if name == 'bert':
    config = transformers.BertConfig(
      vocab_size=31, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
      max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=None,
      attn_implementation='eager',
    )  # fmt: skip
    theirs = transformers.BertForMaskedLM(config)
  else:
    config = transformers.GPT2Config(
      vocab_size=31, n_positions=16, n_layer=2, n_head=4, n_embd=24, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
    )
    theirs = transformers.GPT2LMHeadModel(config)
  with torch.no_grad():
    for p in theirs.parameters():
      p.copy_(torch.randn_like(p) * 0.3 + (p.ndim == 1))
  return torch, theirs


def compared(name, theirs, logits_of, adapters, both):
  """Asserts that logits and gradients of adapters are equal; `adapters` are theirs, path here -> (A, B)."""
  params = drawn(both)
  like = {'params': lora.without(params)}
  tensors = {k: v.detach().numpy() for k, v in theirs.items()}
  params = start.convert(tensors, like, model=both, layout='huggingface')['params']
  flat = flax.traverse_util.flatten_dict(params, sep='/')
  for path, (a, b) in adapters.items():
    flat |= {f'{path}/lora_a': a.detach().numpy(), f'{path}/lora_b': b.detach().numpy()}
  params = flax.traverse_util.unflatten_dict(flat, sep='/')
  expected = logits_of()
  ours = jax.jit(lambda p: both.apply({'params': p}, TOKENS))
  np.testing.assert_allclose(
    ours(params), expected.detach(), rtol=1e-3, atol=1e-4 * float(expected.detach().abs().max())
  )
  (expected**2).mean().backward()
  grads = flax.traverse_util.flatten_dict(jax.jit(jax.grad(lambda p: (ours(p) ** 2).mean()))(params), sep='/')
  found = [path for path in grads if path.endswith('lora_a')]
  assert len(found) == len(adapters) > 0
  for path, parts in adapters.items():
    for part, leaf in zip(parts, ('lora_a', 'lora_b'), strict=True):
      wanted = part.grad.numpy()
      np.testing.assert_allclose(grads[f'{path}/{leaf}'], wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize('name', ['bert', 'gpt'])
def test_outputs_and_gradients_equal_those_of_pytorch_by_hand(name):
  torch, theirs = torch_model(name)
  both, tensors = with_adapters(name), dict(theirs.state_dict())
  beside = (
    {'attention.self.query': ('attention/q', 24, 24), 'attention.self.value': ('attention/v', 24, 24)}
    if name == 'bert'
    else {'attn.c_attn': ('attention/qkv', 24, 72), 'mlp.c_proj': ('down', 96, 24)}
  )
  adapters = {}
  for path, module in theirs.named_modules():
    for end, (ours, size, out) in beside.items():
      if path.endswith(end):
        number = next(part for part in path.split('.') if part.isdecimal())
        a = (torch.randn(size, 3) * 0.3).requires_grad_()
        b = (torch.randn(3, out) * 0.3).requires_grad_()
        adapters[f'block_{number}/{ours}'] = a, b
        module.register_forward_hook(lambda _, x, y, a=a, b=b: y + 6 / 3 * (x[0] @ a @ b))
  compared(name, tensors, lambda: theirs.eval()(torch.tensor(TOKENS)).logits, adapters, both)


@pytest.mark.filterwarnings('ignore:.*is_gradient_checkpointing:FutureWarning')  # of peft to transformers
@pytest.mark.parametrize('name', ['bert', 'gpt'])
def test_outputs_and_gradients_equal_pefts(name):
  torch, theirs = torch_model(name)
  peft = pytest.importorskip('peft')
  both, tensors = with_adapters(name), {k: v.clone() for k, v in theirs.state_dict().items()}
  layers = ['query', 'value'] if name == 'bert' else ['attn.c_attn', 'mlp.c_proj']
  options = peft.LoraConfig(r=3, lora_alpha=6, target_modules=layers, fan_in_fan_out=name == 'gpt')
  theirs, adapters = peft.get_peft_model(theirs, options).eval(), {}
  names = {'query': 'attention/q', 'value': 'attention/v', 'c_attn': 'attention/qkv', 'c_proj': 'down'}
  for path, p in theirs.named_parameters():
    if 'lora_' in path:
      p.data = torch.randn_like(p) * 0.3
      number = next(part for part in path.split('.') if part.isdecimal())
      ours = f'block_{number}/{names[path.split(".lora_")[0].rpartition(".")[2]]}'
      adapters.setdefault(ours, []).append(p)

  class Turned:
    """Theirs are [rank, in] and [out, rank]."""

    def __init__(self, p):
      self.p = p

    detach = lambda self: self.p.detach().T
    grad = property(lambda self: self.p.grad.T)

  turned = {path: tuple(map(Turned, parts)) for path, parts in adapters.items()}
  compared(name, tensors, lambda: theirs(torch.tensor(TOKENS)).logits, turned, both)


def test_half_precision_is_the_layers_own():
  both = lora.adapted(MODELS['gpt'][0].clone(dtype=jnp.bfloat16), with_adapters('gpt').lora)
  params = drawn(both)
  assert {x.dtype for x in jax.tree.leaves(both.init(jax.random.key(0), TOKENS))} == {jnp.dtype('float32')}
  text = str(jax.make_jaxpr(lambda p: both.apply({'params': p}, TOKENS))(params))
  assert 'bf16[33,3]' in text and 'f32[33,3]' not in text


def test_mistakes():
  with pytest.raises(ValueError, match=r"lora.layers: 'querry' is found in no layer .*; valid: block_0/attention/k, "):
    lora.adapted(MODELS['bert'][0], lora.LoRA(layers='querry')).init(jax.random.key(0), TOKENS)
