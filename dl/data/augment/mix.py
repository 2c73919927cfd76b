"""Mixtures of each example with another one of its batch.

Besides the mixed `image` (or `features`), they put into the batch `mixed_label` [b] int32, the label of the other
example, and `label_share` [b] float32, the share of the example's own `label`: the loss is
`label_share * L(label) + (1 - label_share) * L(mixed_label)`.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from dl.config.bounds import NotNegative, Share
from dl.data.augment import boxes, checks
from dl.data.augment.checks import Batch
from dl.errors import ConfigError

Order = Literal['reversed', 'random']


def mixup(
  key: Key[Array, ''],
  batch: Batch,
  alpha: NotNegative = 0.2,
  probability: Share = 1.0,
  per_example: bool = False,
  order: Order = 'reversed',
) -> Batch:
  """Weighted means of two examples ("mixup: Beyond Empirical Risk Minimization", arXiv 1710.09412).

  Cite: zhang2018mixup

  Args:
    key: draws.
    batch: has `image` or `features`, and `label` [b].
    alpha: both parameters of the Beta distribution which weights are drawn from.
    probability: of mixing at all.
    per_example: draws for each example; False: one draw for the batch.
    order: which example is the other one: the batch reversed, or in a random order.
  """
  name = _check(batch, 'mixup', probability, alpha=alpha)
  share_key, apply_key, order_key = jax.random.split(key, 3)
  count = len(batch[name])
  share = _draw(share_key, alpha, count, per_example)
  share = jnp.where(_applies(apply_key, probability, count, per_example), share, 1.0)
  return _mix(batch, name, share.reshape(-1, *(1,) * (batch[name].ndim - 1)), share, _others(order_key, count, order))


def cutmix(
  key: Key[Array, ''],
  batch: Batch,
  alpha: NotNegative = 1.0,
  probability: Share = 1.0,
  per_example: bool = False,
  order: Order = 'reversed',
) -> Batch:
  """A rectangle of another image pasted into each ("CutMix: Regularization Strategy ...", arXiv 1905.04899).

  The rectangle has the shape of the image; its centre is any pixel, and what lies outside is cut away. `label_share` is
  the exact share of the pixels which are the image's own.

  Cite: yun2019cutmix

  Args:
    key: draws.
    batch: has `image` and `label` [b].
    alpha: both parameters of the Beta distribution which the share of the area outside is drawn from.
    probability: of mixing at all.
    per_example: draws for each example; False: one draw for the batch.
    order: which example is the other one: the batch reversed, or in a random order.
  """
  image = checks.image_to_move(batch, 'cutmix')
  _check(batch, 'cutmix', probability, alpha=alpha)
  box_key, apply_key, order_key = jax.random.split(key, 3)
  pasted = _paste(box_key, image, alpha, per_example)
  pasted &= _applies(apply_key, probability, len(image), per_example)[:, None, None, None]
  own = 1.0 - pasted
  return _mix(batch, 'image', own, 1.0 - boxes.share(pasted), _others(order_key, len(image), order))


def mixup_or_cutmix(
  key: Key[Array, ''],
  batch: Batch,
  mixup_alpha: NotNegative = 0.8,
  cutmix_alpha: NotNegative = 1.0,
  switch_probability: Share = 0.5,
  probability: Share = 1.0,
  per_example: bool = False,
  order: Order = 'reversed',
) -> Batch:
  """One of the two at random.

  Cite: zhang2018mixup, yun2019cutmix

  Args:
    key: draws.
    batch: has `image` and `label` [b].
    mixup_alpha: `alpha` of `mixup`.
    cutmix_alpha: `alpha` of `cutmix`.
    switch_probability: of `cutmix` in place of `mixup`.
    probability: of mixing at all.
    per_example: draws for each example; False: one draw for the batch.
    order: which example is the other one: the batch reversed, or in a random order.
  """
  image = checks.image_to_move(batch, 'mixup_or_cutmix')
  _check(batch, 'mixup_or_cutmix', probability, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
  checks.share(switch_probability=switch_probability)
  share_key, box_key, switch_key, apply_key, order_key = jax.random.split(key, 5)
  count = len(image)
  pasted = _paste(box_key, image, cutmix_alpha, per_example)
  cut = _applies(switch_key, switch_probability, count, per_example)
  share = jnp.where(cut, 1.0 - boxes.share(pasted), _draw(share_key, mixup_alpha, count, per_example))
  own = jnp.where(cut[:, None, None, None], 1.0 - pasted, share[:, None, None, None])
  mixed = _applies(apply_key, probability, count, per_example)
  own, share = jnp.where(mixed[:, None, None, None], own, 1.0), jnp.where(mixed, share, 1.0)
  return _mix(batch, 'image', own, share, _others(order_key, count, order))


def _check(batch: Batch, who: str, probability: float, **alphas: float) -> str:
  name = checks.image_or_features(batch, who)
  label = batch.get('label')
  if label is None or label.ndim != 1 or not jnp.issubdtype(label.dtype, jnp.integer):
    got = ', '.join(sorted(batch)) if label is None else f'{label.dtype} of shape {label.shape}'
    raise ConfigError(f'{who} needs one whole number as the label of each example in a batch, got {got}')
  if 'mixed_label' in batch:
    raise ConfigError(f'{who}: the batch is mixed already; mixup_or_cutmix takes one of the two at random')
  checks.share(probability=probability)
  checks.above_zero(**alphas)
  return name


def _draw(key: Key[Array, ''], alpha: float, count: int, per_example: bool) -> Float[Array, ' b']:
  return jnp.broadcast_to(jax.random.beta(key, alpha, alpha, (count if per_example else 1,), jnp.float32), (count,))


def _applies(key: Key[Array, ''], probability: float, count: int, per_example: bool) -> Bool[Array, ' b']:
  return jnp.broadcast_to(jax.random.bernoulli(key, probability, (count if per_example else 1,)), (count,))


def _paste(
  key: Key[Array, ''], image: Float[Array, 'b h w c'], alpha: float, per_example: bool
) -> Bool[Array, 'b h w 1']:
  """The pixels which come from the other image."""
  share_key, *centre_keys = jax.random.split(key, 3)
  count, size = len(image), image.shape[1:3]
  half = 0.5 * jnp.sqrt(1.0 - _draw(share_key, alpha, count, per_example))
  ends = []
  for centre_key, side in zip(centre_keys, size, strict=True):
    reach = (half * side).astype(jnp.int32)
    centre = jax.random.randint(centre_key, (count if per_example else 1,), 0, side)
    ends += [(centre - reach, centre + reach)]
  (top, bottom), (left, right) = ends
  return boxes.inside(size, top, left, bottom, right)


def _others(key: Key[Array, ''], count: int, order: Order) -> Int[Array, ' b']:
  return jax.random.permutation(key, count) if order == 'random' else jnp.arange(count)[::-1]


def _mix(
  batch: Batch, name: str, own: Float[Array, 'b ...'], share: Float[Array, ' b'], others: Int[Array, ' b']
) -> Batch:
  """`own`: the weight of each of the example's own numbers; `share`: that of its label."""
  values, label = batch[name], batch['label'].astype(jnp.int32)
  mixed = own * values + (1.0 - own) * values[others]
  if 'mask' in batch:  # what fills up a batch is not mixed into examples
    real = batch['mask'][others] > 0
    share = jnp.where(real, share, 1.0)
    mixed = jnp.where(real.reshape(-1, *(1,) * (values.ndim - 1)), mixed, values)
  return batch | {name: mixed, 'mixed_label': label[others], 'label_share': share}
