"""Optimizers as data."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dl import optim
from dl.contract.state import State
from dl.errors import ConfigError

PARAMS = {
  'Dense_0': {'kernel': jnp.ones((3, 4)), 'bias': jnp.ones(4)},
  'Dense_1': {'kernel': jnp.ones((4, 2)), 'bias': jnp.ones(2)},
}
LENGTH = optim.Length(total=100, per_epoch=10.0, examples=32)


def make(**stages):
  return optim.make(stages, {'model': PARAMS}, LENGTH).chains['model']


def run(chain, steps=3, params=PARAMS):
  state = chain.init(params)
  for i in range(steps):
    grads = jax.tree.map(lambda p, i=i: p * 0.1 * (i + 1), params)
    updates, state = chain.update(grads, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def assert_equal(a, b):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), a, b)


def test_chain_equals_hand_written_optax():
  ours = make(
    clip=dict(name='clip_by_global_norm', max_norm=0.5),
    adam=dict(
      name='adamw',
      weight_decay=0.05,
      mask='kernel$',
      learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-1, warmup='5%'),
    ),
  )
  mask = lambda p: jax.tree_util.tree_map_with_path(lambda k, _: k[-1].key == 'kernel', p)
  theirs = optax.chain(
    optax.clip_by_global_norm(0.5),
    optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-1, 5, 100), weight_decay=0.05, mask=mask),
  )
  assert_equal(run(ours)[0], run(theirs)[0])


def test_assigned_values_are_one_optimizer_a_group():
  ours = make(sgd=dict(name='sgd', learning_rate=[['Dense_0', 0.0], ['kernel', 0.5], ['.*', 0.1]]))
  new, _ = run(ours, steps=1)
  np.testing.assert_allclose(new['Dense_0']['kernel'], 1.0)
  np.testing.assert_allclose(new['Dense_1']['kernel'], 1 - 0.5 * 0.1)
  np.testing.assert_allclose(new['Dense_1']['bias'], 1 - 0.1 * 0.1)


def test_mask_restricts_a_stage_without_one_of_its_own():
  new, _ = run(make(sgd=dict(name='sgd', learning_rate=1.0), freeze=dict(name='set_to_zero', mask='^Dense_0')), steps=1)
  np.testing.assert_array_equal(new['Dense_0']['kernel'], 1.0)
  assert np.all(np.asarray(new['Dense_1']['kernel']) != 1.0)


def test_accumulate_equals_the_mean_gradient():
  params, _ = run(make(accumulate=dict(name='accumulate', steps=4), sgd=dict(name='sgd', learning_rate=1.0)), steps=4)
  mean = 0.1 * np.mean([1, 2, 3, 4])
  np.testing.assert_allclose(params['Dense_0']['kernel'], 1 - mean, rtol=1e-6)


def test_schedules_inside_accumulate_count_updates():
  schedule = dict(name='linear_schedule', init_value=1.0, end_value=0.0)
  made = optim.make(
    dict(accumulate=dict(name='accumulate', steps=4), sgd=dict(name='sgd', learning_rate=schedule)),
    {'model': PARAMS},
    LENGTH,
  )
  rate, per_step = made.learning_rates['learning_rate']
  assert per_step == 0.25
  assert float(rate(25)) == 0.0  # 100 steps are 25 updates
  assert made.rates(100)['learning_rate'] == pytest.approx(1 / 25)


def test_params_ema_averages_the_updated_parameters():
  chain = make(sgd=dict(name='sgd', learning_rate=1.0), ema=dict(name='params_ema', decay=0.5, debias=False))
  params, expected, state = PARAMS, 1.0, chain.init(PARAMS)
  for _ in range(3):
    updates, state = chain.update(jax.tree.map(lambda p: 0.1 * p, params), state, params)
    params = optax.apply_updates(params, updates)
    expected = 0.5 * expected + 0.5 * float(params['Dense_0']['bias'][0])
  np.testing.assert_allclose(state[-1].average['Dense_0']['bias'], expected, rtol=1e-6)


def test_params_average_is_the_mean_since_an_update():
  stages = dict(sgd=dict(name='sgd', learning_rate=1.0), mean=dict(name='params_average', after='2%'))
  chain, params, seen = make(**stages), PARAMS, []
  state = chain.init(params)
  for step in range(5):
    updates, state = chain.update(jax.tree.map(lambda p: 0.1 * p, params), state, params)
    params = optax.apply_updates(params, updates)
    seen.append(float(params['Dense_0']['bias'][0]))
    expected = np.mean(seen[2:]) if step >= 2 else seen[-1]
    average = State(jnp.int32(0), {'model': params}, {'model': state}, {}).averaged().params['model']
    np.testing.assert_allclose(average['Dense_0']['bias'], expected, rtol=1e-6)


def test_durations_in_schedules():
  s = optim.make_schedule(
    dict(name='piecewise_constant_schedule', init_value=1.0, boundaries_and_scales={'5 epochs': 0.1, '80%': 0.1}),
    LENGTH,
    'x',
  )
  np.testing.assert_allclose([s(49), s(51), s(81)], [1.0, 0.1, 0.01], rtol=1e-6)
  joined = dict(name='constant_schedule', value=0.5), dict(name='cosine_decay_schedule', init_value=1.0)
  s = optim.make_schedule(dict(name='join_schedules', schedules=list(joined), boundaries=['10%']), LENGTH, 'x')
  np.testing.assert_allclose([s(9), s(10)], [0.5, 1.0])


def test_a_player_each():
  made = optim.make(
    dict(a=dict(adam=dict(name='adam', learning_rate=1e-3)), b=dict(sgd=dict(name='sgd', learning_rate=1e-2))),
    {'a': PARAMS, 'b': PARAMS},
    LENGTH,
  )
  assert set(made.chains) == {'a', 'b'}
  assert made.rates(1) == pytest.approx({'a_learning_rate': 1e-3, 'b_learning_rate': 1e-2})


@pytest.mark.parametrize(
  ('stages', 'says'),
  [
    (dict(adam=dict(name='adamm', learning_rate=1e-3)), "did you mean 'adam'"),
    (dict(adam=dict(name='adam', learning_rat=1e-3)), "did you mean 'learning_rate'"),
    (dict(adam=dict(name='adam', learning_rate='fast')), 'config.optim.adam.learning_rate'),
    (dict(adam=dict(name='adam')), "needs an argument 'learning_rate'"),
    (dict(adam=dict(name='adamw', learning_rate=1e-3, mask='kernl')), 'matches no parameter'),
    (dict(adam=dict(name='adamw', learning_rate=1e-3, mask='(')), 'not a regular expression'),
    (dict(sgd=dict(name='sgd', learning_rate=[['Dense_0', 1.0]])), 'no pattern matches'),
    (dict(sgd=dict(name='sgd', learning_rate=[['.*', 1.0], ['Dense_0', 1.0]])), 'that earlier patterns leave'),
    (dict(sgd=dict(name='constant_schedule', value=1.0)), 'not a gradient transformation'),
    (dict(adam=dict(name='adam', learning_rate=dict(name='cosine', init_value=1.0))), 'cosine'),
    (
      dict(adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=1.0, decay_steps='x'))),
      'expected a duration',
    ),
    (dict(name='adam', learning_rate=1e-3), 'stages have names'),
    (dict(accumulate=dict(name='accumulate', steps=2)), 'wraps the stages after it'),
    (dict(adam=dict(name='adam', learning_rate=1e-3), ema=dict(name='params_ema', decay=1.5)), 'decay: must be'),
    (
      dict(mean=dict(name='params_average', after=0), sgd=dict(name='sgd', learning_rate=1.0)),
      'config.optim.mean: params_average is the last stage',
    ),
    ({}, 'expected named stages'),
  ],
)
def test_mistakes_are_one_line(stages, says):
  with pytest.raises(ConfigError) as e:
    optim.make(stages, {'model': PARAMS}, LENGTH)
  assert says in str(e.value)
  assert '\n' not in str(e.value)


def test_freeze_keeps_parameters_and_stores_nothing_for_them():
  chain = make(
    freeze=dict(name='freeze', mask='^Dense_0'),
    clip=dict(name='clip_by_global_norm', max_norm=0.1),
    adam=dict(name='adamw', weight_decay=0.1, mask='kernel$', learning_rate=[['kernel', 0.1], ['bias', 0.2]]),
    ema=dict(name='params_ema', decay=0.5),
  )
  new, state = run(chain)
  assert_equal(new['Dense_0'], PARAMS['Dense_0'])
  assert all((n != 1).all() for n in jax.tree.leaves(new['Dense_1']))
  shapes = [x.shape for x in jax.tree.leaves(state)]
  assert (3, 4) not in shapes and shapes.count((4, 2)) == 3  # two moments and the average
  alone, _ = run(
    optim.make(
      dict(
        clip=dict(name='clip_by_global_norm', max_norm=0.1),
        adam=dict(name='adamw', weight_decay=0.1, mask='kernel$', learning_rate=[['kernel', 0.1], ['bias', 0.2]]),
      ),
      {'model': {'Dense_1': PARAMS['Dense_1']}},
      LENGTH,
    ).chains['model'],
    params={'Dense_1': PARAMS['Dense_1']},
  )
  assert_equal(new['Dense_1'], alone['Dense_1'])  # the norm is that of the trained gradients
  averaged = State(jnp.int32(3), {'model': new}, {'model': state}, {}).averaged().params['model']
  assert_equal(averaged['Dense_0'], PARAMS['Dense_0'])
  assert not np.allclose(averaged['Dense_1']['bias'], new['Dense_1']['bias'])


def test_what_is_frozen_costs_no_gradient():
  def flops(chain):
    def step(params, state, x):
      loss = lambda p: (jnp.tanh(x @ p['Dense_0']['kernel']) @ p['Dense_1']['kernel']).sum()
      updates, state = chain.update(jax.grad(loss)(params), state, params)
      return optax.apply_updates(params, updates)

    return jax.jit(step).lower(PARAMS, chain.init(PARAMS), jnp.ones((5, 3))).compile().cost_analysis()['flops']

  sgd = dict(name='sgd', learning_rate=0.1)
  assert flops(make(freeze=dict(name='freeze', mask='^Dense_0'), sgd=sgd)) < flops(make(sgd=sgd)) / 2


@pytest.mark.parametrize(
  ('stage', 'match'),
  [
    (dict(name='freeze', mask='.*'), 'matches every parameter'),
    (dict(name='freeze', mask='Conv'), 'matches no parameter'),
    (dict(name='freeze'), 'expected a pattern'),
  ],
)
def test_a_freeze_which_cannot_be_is_refused(stage, match):
  with pytest.raises(ConfigError, match=match):
    make(freeze=stage, sgd=dict(name='sgd', learning_rate=0.1))


def test_layers_learn_more_slowly_the_lower_they_are():
  decay = dict(name='layerwise_decay', decay=0.5, layers=('Dense_0', 'Dense_1/kernel', 'Dense_1/bias'))
  new, _ = run(make(sgd=dict(name='sgd', learning_rate=1.0), decay=decay), steps=1)
  for found, factor in ((new['Dense_0']['bias'], 0.25), (new['Dense_1']['kernel'], 0.5), (new['Dense_1']['bias'], 1)):
    np.testing.assert_allclose(found, 1 - 0.1 * factor, rtol=1e-6)
  with pytest.raises(ConfigError, match='no pattern matches'):
    make(sgd=dict(name='sgd', learning_rate=1.0), decay=dict(decay, layers=('Dense_0',)))


def test_parameters_are_unfrozen_one_after_the_other():
  after = [['Dense_1/bias', 0], ['Dense_1', '1%'], ['.*', 2]]
  chain = make(sgd=dict(name='sgd', learning_rate=1.0), gradual=dict(name='unfreeze', after=after))
  params, state, moved = PARAMS, chain.init(PARAMS), []
  for _ in range(3):
    updates, state = chain.update(jax.tree.map(jnp.ones_like, params), state, params)
    moved.append(
      [bool(u.any()) for u in (updates['Dense_1']['bias'], updates['Dense_1']['kernel'], updates['Dense_0']['bias'])]
    )
  assert moved == [[True, False, False], [True, True, False], [True, True, True]]


def test_a_warm_up_leaves_the_places_of_a_schedule_where_they_are():
  spec = dict(name='piecewise_constant_schedule', init_value=1.0, boundaries_and_scales={'50%': 0.1}, warmup='20%')
  schedule = optim.make_schedule(spec, optim.Length(100, None, None), 'config')
  np.testing.assert_allclose([schedule(s) for s in (0, 10, 20, 49, 50)], [0.0, 0.5, 1.0, 1.0, 0.1], rtol=1e-6)


def test_a_parameter_that_masks_leave_to_no_optimizer_is_named():
  rest = "no stage with a learning_rate takes 'Dense_0/bias': the mask of muon leaves it out"
  with pytest.raises(ConfigError, match=rest):
    make(muon=dict(name='muon', learning_rate=0.1, mask='kernel$'))
  make(muon=dict(name='muon', learning_rate=0.1, mask='kernel$'), sgd=dict(name='sgd', learning_rate=0.1, mask='bias$'))
  make(adam=dict(name='adamw', learning_rate=0.1, mask='kernel$'))  # this mask is of its weight decay


def test_a_chain_without_a_learning_rate_is_refused():
  with pytest.raises(ConfigError, match=r'^config\.optim: no stage has a learning_rate, so that the raw gradient'):
    make(clip=dict(name='clip', max_delta=1.0), direction=dict(name='scale_by_adam'))


ADAM, SGD = dict(name='adam', learning_rate=0.1), dict(name='sgd', learning_rate=0.1)


@pytest.mark.parametrize(
  ('stages', 'says'),
  [
    (
      dict(adam=ADAM, sgd=SGD),
      "sgd: 'adam' has made steps of the gradients of Dense_0/bias, Dense_0/kernel, Dense_1/bias and 1 more, and 'sgd' "
      'would turn their sign again',
    ),
    (
      dict(adam=dict(name='adamw', learning_rate=0.1, mask='kernel$'), sgd=dict(SGD, mask='bias$')),
      "sgd: 'adam' has made steps of the gradients of Dense_0/bias, Dense_1/bias, and 'sgd' would turn their sign "
      'again, so that training went uphill; leave one of them out, or give them masks that share no parameter (the '
      "mask of 'adam' says what decays, not what it takes)",
    ),
    (dict(a=dict(SGD, mask='kernel'), b=dict(SGD, mask='Dense_0')), "b: 'a' has made steps of .* Dense_0/kernel, and"),
    (dict(adam=ADAM, rate=dict(name='scale_by_learning_rate', learning_rate=1.0)), "rate: 'adam' has made steps of"),
    (dict(free=dict(name='prodigy'), sgd=SGD), "sgd: 'free' has made steps of"),  # a rate of its own
    (dict(polyak=dict(name='polyak_sgd', max_learning_rate=0.1), sgd=SGD), "sgd: 'polyak' has made steps of"),
    (dict(adam=ADAM, back=dict(name='scale', step_size=-1.0)), "back: 'adam' has made steps of"),
    (dict(mean=dict(name='accumulate', steps=2), adam=ADAM, sgd=SGD), "sgd: 'adam' has made steps of"),
    (dict(ok=dict(name='apply_if_finite', max_consecutive_errors=2), a=ADAM, b=SGD), "b: 'a' has made steps of"),
    (dict(freeze=dict(name='freeze', mask='Dense_0'), adam=ADAM, sgd=SGD), "sgd: 'adam' .* of Dense_1/bias, Dense_1/k"),
    (dict(adam=ADAM, freeze=dict(name='freeze', mask='Dense_0'), sgd=SGD), "sgd: 'adam' .* of Dense_1/bias, Dense_1/k"),
  ],
)
def test_two_optimizers_of_one_parameter_are_refused(stages, says):
  says = says.replace('(', '\\(').replace(')', '\\)')
  with pytest.raises(ConfigError, match=rf'^config\.optim\.{says}'):
    make(**stages)


@pytest.mark.parametrize(
  'stages',
  [
    dict(a=dict(ADAM, mask='kernel$'), b=dict(SGD, mask='bias$')),
    dict(clip=dict(name='clip', max_delta=1.0), adam=ADAM, late=dict(name='unfreeze', after=1)),
    dict(direction=dict(name='scale_by_adam'), rate=dict(name='scale_by_learning_rate', learning_rate=0.1)),
    dict(direction=dict(name='scale_by_adam'), rate=dict(name='scale', step_size=-0.1)),
    dict(adam=ADAM, less=dict(name='scale_by_learning_rate', learning_rate=0.1, flip_sign=False)),
    dict(
      rprop=dict(name='scale_by_rprop', learning_rate=0.1), rate=dict(name='scale_by_learning_rate', learning_rate=1.0)
    ),
    dict(ok=dict(name='apply_if_finite', max_consecutive_errors=2), mean=dict(name='accumulate', steps=2), adam=ADAM),
    dict(freeze=dict(name='freeze', mask='bias$'), a=dict(ADAM, mask='Dense_0'), b=dict(SGD, mask='Dense_1')),
  ],
  ids=' '.join,
)
def test_one_optimizer_a_parameter_goes_downhill(stages):
  loss = lambda params: sum((p**2).sum() for p in jax.tree.leaves(params))
  chain, params = make(**stages), PARAMS
  state = chain.init(params)
  for _ in range(2):
    updates, state = chain.update(jax.grad(loss)(params), state, params)
    params = optax.apply_updates(params, updates)
  assert loss(params) < loss(PARAMS)


def test_accumulation_says_what_it_does_not_keep_of_a_larger_batch():
  stages = dict(mean=dict(name='accumulate', steps=2), sgd=SGD)
  length, normed = optim.Length(10), {'batch_stats': {'norm': {'mean': jnp.zeros(3)}}}
  one = optim.make(stages, {'model': PARAMS}, length)
  two = optim.make(dict(a=stages, b=dict(sgd=SGD)), {'a': PARAMS, 'b': PARAMS}, length)
  for optimizer in (one, two):
    assert 'batch norm takes its statistics of each batch' in optimizer.note(normed)
    assert 'batch norm' in optimizer.note({'a': normed}) and optimizer.note({}) is None
  assert optim.make(dict(sgd=SGD), {'model': PARAMS}, length).note(normed) is None


@pytest.mark.parametrize(
  'stage, theirs',
  [
    (dict(name='rmsprop', decay=0.95, momentum=0.5), lambda: optax.rmsprop(0.1, decay=0.95, momentum=0.5)),
    (dict(name='lion', weight_decay=0.1), lambda: optax.lion(0.1, weight_decay=0.1)),
    (dict(name='lamb', weight_decay=0.1), lambda: optax.lamb(0.1, weight_decay=0.1)),
    (dict(name='muon'), lambda: optax.contrib.muon(0.1)),
    (dict(name='sgd', momentum=0.9, nesterov=True), lambda: optax.sgd(0.1, momentum=0.9, nesterov=True)),
  ],
  ids=lambda v: v['name'] if isinstance(v, dict) else '',
)
def test_optimizers_go_by_their_optax_names(stage, theirs):
  assert_equal(run(make(opt=dict(stage, learning_rate=0.1))), run(theirs()))


def test_schedules_of_the_field():
  """Each against its formula: warm-up with cosine, steps, exponential, 1/t and polynomial decay."""
  schedule = lambda **spec: optim.make_schedule(spec, LENGTH, 'learning_rate')
  at = lambda f, *steps: [float(f(s)) for s in steps]
  approx = lambda *v: pytest.approx(v, rel=1e-5, abs=1e-9)
  assert at(schedule(name='warmup_cosine_decay_schedule', peak_value=1.0, warmup='10%'), 5, 10, 55, 100) == approx(
    0.5, 1, 0.5, 0
  )
  steps = schedule(name='piecewise_constant_schedule', init_value=1.0, boundaries_and_scales={'50%': 0.1, '75%': 0.1})
  assert at(steps, 49, 51, 76) == approx(1, 0.1, 0.01)
  assert at(schedule(name='exponential_decay', init_value=1.0, decay_rate=0.5, transition_steps=10), 20) == approx(0.25)
  assert at(
    schedule(name='inverse_time_decay', init_value=1.0, decay_rate=1.0, transition_steps=10), 0, 10, 30
  ) == approx(1, 0.5, 0.25)
  polynomial = schedule(name='polynomial_schedule', init_value=1.0, end_value=0.0, power=2, warmup='20%')
  assert at(polynomial, 0, 10, 20, 60, 100) == approx(0, 0.5, 1, 0.25, 0)
