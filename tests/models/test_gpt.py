"""GPT: equality with Hugging Face's GPT-2, and the cache."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from dl import config
from dl.decoding.choice import Choice
from dl.decoding.sampling import generate
from dl.errors import ConfigError
from dl.models.gpt import GPT
from dl.training import start
from dl.training.assemble import abstractly, assemble

TINY = dict(vocab_size=31, length=16, layers=1, heads=2, width=16)


def size(model):
  variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  return sum(x.size for x in jax.tree.leaves(variables['params']))


@pytest.mark.parametrize(
  'options, count',
  [
    ({}, 124_439_808),
    (dict(layers=24, heads=16, width=1024), 354_823_168),
    (dict(layers=36, heads=20, width=1280), 774_030_080),
    (dict(layers=48, heads=25, width=1600), 1_557_611_200),
    (dict(vocab_size=65, length=256, layers=6, heads=6, width=384, use_bias=False), 10_745_088),
  ],
)
def test_parameter_count(options, count):
  assert size(GPT(**options)) == count


def test_untied_and_rope_counts():
  tied = size(GPT(**TINY))
  assert size(GPT(**TINY, tie_embeddings=False)) == tied + 31 * 16
  assert size(GPT(**TINY, rope=True)) == tied - 16 * 16


@functools.cache
def made(**options):
  """A tiny model with weights large enough that its logits differ."""
  model = GPT(**(TINY | options))
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))['params']
  return model, {'params': jax.tree.map(lambda p: p * 8 if p.ndim > 1 else p + 0.1, params)}


def hugging_face(tied=True):
  """PyTorch, and a tiny GPT-2 of transformers whose weights are large enough that its logits differ."""
  torch = pytest.importorskip('torch')
  transformers = reference.transformers()
  config = transformers.GPT2Config(
    vocab_size=31, n_positions=16, n_layer=2, n_head=2, n_embd=16, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    tie_word_embeddings=tied,
  )  # fmt: skip
  torch.manual_seed(0)
  theirs = transformers.GPT2LMHeadModel(config).eval()
  with torch.no_grad():
    for p in theirs.parameters():
      p.copy_(torch.randn_like(p) * 0.3)
  return torch, theirs


def test_logits_and_gradients_equal_hugging_face():
  torch, theirs = hugging_face()
  model = GPT(**(TINY | dict(layers=2)))
  like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  read = lambda tensors: start.convert(tensors, like, model=model, layout='huggingface')['params']
  ours = read({k: v.detach().numpy() for k, v in theirs.state_dict().items()})

  tokens = np.random.default_rng(0).integers(0, 31, (3, 16))
  expected = theirs(torch.tensor(tokens)).logits
  np.testing.assert_allclose(jax.jit(model.apply)({'params': ours}, tokens), expected.detach(), rtol=1e-3, atol=1e-4)
  (expected**2).mean().backward()
  grads = jax.jit(jax.grad(lambda p: (model.apply({'params': p}, tokens) ** 2).mean()))(ours)
  wanted = read({k: p.grad.numpy() for k, p in theirs.named_parameters()})
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * np.abs(b).max()), grads, wanted)


@pytest.mark.parametrize('prefix', ['transformer.', ''])
@pytest.mark.parametrize('tied', [True, False])
def test_weights_of_hugging_face_load_from_a_file(tied, prefix, tmp_path):
  torch, theirs = hugging_face(tied)
  theirs.save_pretrained(tmp_path)
  tensors = start.read(tmp_path / 'model.safetensors')
  assert ('lm_head.weight' in tensors) != tied
  tensors = {k.replace('transformer.', prefix): v for k, v in tensors.items()}
  tensors |= {f'{prefix}h.0.attn.bias': np.ones((1, 1, 16, 16)), f'{prefix}h.1.attn.masked_bias': np.float32(-1e4)}
  model = GPT(**TINY | dict(layers=2, tie_embeddings=tied))
  like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  read = functools.partial(start.convert, like=like, layout='huggingface')
  variables = read(tensors, model=model)
  tokens = np.random.default_rng(0).integers(0, 31, (3, 16))
  expected = theirs(torch.tensor(tokens)).logits.detach()
  np.testing.assert_allclose(jax.jit(model.apply)(variables, tokens), expected, rtol=1e-3, atol=1e-4)
  if not tied:  # the last layer of a file without one is the embedding; a file with its own fits no tied network
    del tensors['lm_head.weight']
    embedding = tensors[f'{prefix}wte.weight']
    np.testing.assert_array_equal(read(tensors, model=model)['params']['out']['kernel'].T, embedding)
    tensors['lm_head.weight'] = embedding + 1
    with pytest.raises(ConfigError, match='extra out'):
      like['params'].pop('out')
      read(tensors, model=model.copy(tie_embeddings=True))


class TheirGPT(GPT):
  """Of a user, who inherits layouts and rules of sharding."""


def test_a_run_of_a_config_starts_from_a_gpt2_of_hugging_face(tmp_path):
  """As a user would: a file that transformers saved, named by `init_from` of a config; a subclass reads it as well."""
  torch, theirs = hugging_face()
  theirs.save_pretrained(tmp_path)
  experiment = config.resolve(
    dict(
      task=dict(name='lm.LanguageModel'),
      model=dict(name=f'{__name__}.TheirGPT', **TINY | dict(layers=2)),
      data=dict(name='synthetic.Tokens', length=16, vocab_size=31, count=8, batch_size=2),
      optim=dict(sgd=dict(name='sgd', learning_rate=0.1)),
      train_for=1,
      init_from=dict(name='tensors', path=str(tmp_path / 'model.safetensors'), layout='huggingface'),
    )
  )
  parts = assemble(experiment)
  state = jax.jit(parts.init)(dict(start.load(experiment.init_from, parts)))
  tokens = np.random.default_rng(0).integers(0, 31, (3, 16))
  logits, _ = parts.task.apply(state.params, state.extra, tokens, jax.random.key(0), False)
  expected = theirs(torch.tensor(tokens)).logits.detach()
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_initialization_is_that_of_gpt2():
  model = GPT(vocab_size=200, length=64, layers=4, heads=4, width=128)
  params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))['params']
  deviation = lambda p: float(jnp.std(p))
  for p in (params['token']['embedding'], params['block_3']['up']['kernel']):
    assert deviation(p) == pytest.approx(0.02, rel=0.03)
  for p in (params['block_0']['down']['kernel'], params['block_3']['attention']['out']['kernel']):
    assert deviation(p) == pytest.approx(0.02 / 8**0.5, rel=0.03)
  assert not params['block_0']['attention']['qkv']['bias'].any()


@pytest.mark.parametrize('rope', [False, True])
def test_causal(rope):
  model, variables = made(rope=rope)
  tokens = jax.random.randint(jax.random.key(1), (1, 16), 0, 31)
  changed = tokens.at[0, 9].set((tokens[0, 9] + 1) % 31)
  a, b = jax.jit(lambda *t: [model.apply(variables, x) for x in t])(tokens, changed)
  assert jnp.array_equal(a[:, :9], b[:, :9])
  assert not jnp.allclose(a[:, 9:], b[:, 9:])


@pytest.mark.parametrize('per_token', [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_with_experts_the_last_token_changes_no_earlier_logit_and_the_cache_no_token(per_token):
  # Places are few: with a capacity of the whole text, a later token would take or free some of them.
  options = dict(length=48, experts=4, experts_per_token=per_token, capacity_factor=0.3, layers=2, rope=True)
  model, variables = made(**options)
  apply = jax.jit(model.apply)
  tokens = jax.random.randint(jax.random.key(1), (3, 48), 0, 31)
  whole = apply(variables, tokens)
  np.testing.assert_array_equal(whole[:, :-1], apply(variables, tokens.at[:, -1].add(1) % 31)[:, :-1])
  assert not jnp.allclose(whole, jax.jit(model.clone(capacity_factor=8.0).apply)(variables, tokens), atol=1e-2)
  prompt = tokens[:, :5]
  cached = generate(model, variables, prompt, jax.random.key(0), 0.0, length=43)
  text = jnp.concatenate([prompt, cached], 1)
  np.testing.assert_array_equal(cached, apply(variables, text)[:, 4:-1].argmax(-1))
  assert len(set(np.asarray(cached).ravel().tolist())) > 3


def test_rope_sees_distances_alone():
  from dl.nn.attention import rotate

  q, k = jax.random.normal(jax.random.key(0), (2, 1, 5, 2, 8))
  score = lambda shift: jnp.einsum(
    'bqhd,bkhd->bhqk', rotate(q, jnp.arange(5) + shift), rotate(k, jnp.arange(5) + shift)
  )
  np.testing.assert_allclose(score(0), score(100), atol=1e-4)
  assert not jnp.allclose(score(0), jnp.einsum('bqhd,bkhd->bhqk', q, k), atol=1e-2)


@pytest.mark.parametrize(
  'options',
  [
    pytest.param(dict(layers=2), marks=pytest.mark.thorough),
    dict(layers=2, scan=True),
    dict(rope=True, use_bias=False, tie_embeddings=False),
  ],
)
def test_cached_logits_equal_uncached(options):
  model, variables = made(**options)
  tokens = jax.random.randint(jax.random.key(1), (3, 16), 0, 31)
  read = jax.jit(lambda c, t: model.apply({**variables, 'cache': c}, t, decode=True, mutable=['cache']))
  whole = jax.jit(model.apply)(variables, tokens)
  cache = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(read, {}, tokens)[1]['cache'])
  parts = []
  for piece in jnp.split(tokens, (5, 6, 11), axis=1):
    logits, changed = read(cache, piece)
    cache = changed['cache']
    parts.append(logits)
  np.testing.assert_allclose(jnp.concatenate(parts, 1), whole, rtol=1e-4, atol=1e-4)
  assert cache['index'] == 16


@pytest.mark.parametrize(
  ('scan', 'remat'),
  [
    (True, 'full'),
    *(pytest.param(*case, marks=pytest.mark.thorough) for case in itertools.product((False, True), ('none', 'dots'))),
    pytest.param(False, 'full', marks=pytest.mark.thorough),
  ],
)
def test_scanned_and_rematerialized_blocks_change_nothing(scan, remat):
  plain, variables = made(layers=2, rope=True)
  model, params = plain.clone(scan=scan, remat=remat), dict(variables['params'])
  if scan:
    blocks = [params.pop(f'block_{i}') for i in range(2)]
    params['blocks'] = jax.tree.map(lambda *x: jnp.stack(x), *blocks)
  tokens = jax.random.randint(jax.random.key(1), (2, 16), 0, 31)
  loss = lambda model: jax.jit(jax.value_and_grad(lambda p: (model.apply({'params': p}, tokens) ** 2).mean()))
  value, grads = loss(model)(params)
  expected, wanted = loss(plain)(variables['params'])
  if scan:
    wanted = dict(wanted)
    wanted['blocks'] = jax.tree.map(lambda *x: jnp.stack(x), *[wanted.pop(f'block_{i}') for i in range(2)])
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), grads, wanted)


def test_rematerialization_saves_less_for_the_backward_pass():
  tokens = jnp.zeros((2, 16), jnp.int32)

  def saved(remat):
    model = GPT(**TINY | dict(layers=2), remat=remat)
    params = jax.eval_shape(model.init, jax.random.key(0), tokens)['params']
    backward = jax.eval_shape(lambda p: jax.vjp(lambda p: model.apply({'params': p}, tokens).sum(), p)[1], params)
    return sum(x.size for x in jax.tree.leaves(backward))

  assert saved('full') < saved('dots') < saved('none')


@pytest.mark.parametrize('rope', [pytest.param(False, marks=pytest.mark.thorough), True])
def test_generation_equals_uncached_argmax_beyond_the_context(rope):
  model, variables = made(rope=rope, tie_embeddings=False)
  prompt = jax.random.randint(jax.random.key(2), (2, 3), 0, 31)
  ours = generate(model, variables, prompt, jax.random.key(0), 0.0, length=40)
  apply = jax.jit(lambda t: model.apply(variables, t))
  tokens, begin = np.asarray(prompt), 0
  for _ in range(40):
    if tokens.shape[1] - begin > 16:  # the context was full before the newest token: keep the half before that token
      begin = tokens.shape[1] - 1 - 8
    window = np.pad(tokens[:, begin:], ((0, 0), (0, 16 - (tokens.shape[1] - begin))))
    best = np.asarray(apply(window))[:, tokens.shape[1] - begin - 1].argmax(-1)
    tokens = np.concatenate([tokens, best[:, None]], 1)
  assert len(set(np.asarray(ours).ravel().tolist())) > 3
  np.testing.assert_array_equal(ours, tokens[:, 3:])


@pytest.mark.thorough
def test_generation_follows_the_distribution():
  model, variables = made()
  prompt = jnp.full((4000, 1), 5)
  p = jax.nn.softmax(jax.jit(model.apply)(variables, prompt[:1])[0, -1] / 2.0)
  drawn = generate(model, variables, prompt, jax.random.key(0), 2.0, length=1)[:, 0]
  frequency = np.bincount(drawn, minlength=31) / 4000
  assert np.abs(frequency - p).max() < 0.03
  few = generate(model, variables, prompt, jax.random.key(0), Choice(2.0, top_k=3), length=1, vocab_size=20)
  assert set(np.unique(few)) == set(np.argsort(p[:20])[-3:].tolist())


def test_generation_compiles_once():
  _, variables = made()
  before = generate._cache_size()
  for seed in range(3):
    prompt = jnp.full((1, 2), seed)
    generate(GPT(**TINY), variables, prompt, jax.random.key(seed), 0.1 * seed, length=7)
  assert generate._cache_size() == before + 1


def test_bfloat16_and_dropout():
  model, variables = made(dtype=jnp.bfloat16, dropout=0.3)
  tokens = jax.random.randint(jax.random.key(1), (2, 16), 0, 31)
  drop = lambda key: model.apply(variables, tokens, train=True, rngs={'dropout': key})

  @jax.jit
  def run():
    keys = jax.random.split(jax.random.key(0))
    return GPT(**TINY).apply(variables, tokens), model.apply(variables, tokens), jax.vmap(drop)(keys)

  exact, logits, (one, other) = run()
  assert logits.dtype == jnp.float32
  assert 0 < jnp.abs(logits - exact).max() < 0.1 * jnp.abs(exact).max()
  assert not jnp.allclose(one, logits) and not jnp.allclose(one, other)


@pytest.mark.parametrize(
  'options, line',
  [
    (dict(heads=3), '3 heads do not divide a width of 16'),
    (dict(heads=16, rope=True), 'rope needs an even head width, got 1'),
    (dict(length=1), 'a length of 1, but there are 2 tokens to read'),
    (dict(experts=4, experts_per_token=5), 'a token can go to 1 to 4 experts, got 5'),
  ],
)
def test_errors(options, line):
  init = lambda: GPT(**(TINY | options)).init(jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
  with pytest.raises(ValueError, match=line):
    jax.eval_shape(init)
  with pytest.raises(ConfigError, match=f'^config.model: {line}'):
    abstractly(init)


def test_what_keeps_fewer_activations():
  assert GPT(length=1024).memory_savings() == {'remat': 'full'}
  assert GPT(length=4096, remat='dots').memory_savings() == {'remat': 'full', 'attention_chunk': 1024}
  assert GPT(length=4096, remat='full', dropout=0.1).memory_savings() == {}
