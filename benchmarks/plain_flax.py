"""What a researcher would write without dl: LeNet-5 on scikit-learn's digits in one script, for comparison.

python benchmarks/plain_flax.py --steps=900; prints the seconds from the start of the process to the first step done,
and the test accuracy.
"""

import time

STARTED = time.time()

import argparse  # noqa: E402

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402


class LeNet5(nn.Module):
  """LeNet-5 with ReLU and max pooling."""

  @nn.compact
  def __call__(self, x):
    x = nn.max_pool(nn.relu(nn.Conv(6, (5, 5), padding='VALID')(x)), (2, 2), (2, 2))
    x = nn.max_pool(nn.relu(nn.Conv(16, (5, 5), padding='VALID')(x)), (2, 2), (2, 2))
    x = x.reshape(len(x), -1)
    for width in (120, 84):
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(10)(x)


def shift(key, images):
  """A random shift of up to one pixel, with bilinear interpolation."""

  def one(key, image):
    offset = jax.random.uniform(key, (2,), minval=-1, maxval=1)
    return jax.image.scale_and_translate(
      image, image.shape, (0, 1), jnp.ones(2), offset, method='linear', antialias=False
    )

  return jax.vmap(one)(jax.random.split(key, len(images)), images)


def main() -> None:
  """Trains and prints."""
  parser = argparse.ArgumentParser()
  parser.add_argument('--steps', type=int, default=900)
  steps = parser.parse_args().steps
  from sklearn import datasets, model_selection

  digits = datasets.load_digits()
  images = (digits.images[..., None] / 16).astype(np.float32)
  x, x_test, y, y_test = model_selection.train_test_split(
    images, digits.target, test_size=360, stratify=digits.target, random_state=0
  )
  model = LeNet5()
  resize = lambda x: jax.image.resize(x, (len(x), 32, 32, 1), 'bilinear')
  params = jax.jit(lambda: model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1))))()
  optim = optax.adamw(optax.cosine_decay_schedule(2e-3, steps))
  opt = optim.init(params)

  @jax.jit
  def step(params, opt, key, x, y):
    x = resize(shift(key, x))
    loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(model.apply(p, x), y).mean()
    updates, opt = optim.update(jax.grad(loss)(params), opt, params)
    return optax.apply_updates(params, updates), opt

  rng = np.random.default_rng(0)
  for i in range(steps):
    index = rng.integers(0, len(x), 64)
    params, opt = step(params, opt, jax.random.key(i), x[index], y[index])
    if i == 0:
      jax.block_until_ready(params)
      print(f'first step {time.time() - STARTED:.2f} s', flush=True)
  accuracy = jax.jit(lambda p, x: model.apply(p, resize(x)).argmax(-1))(params, x_test) == y_test
  print(f'test accuracy {accuracy.mean():.4f}')


if __name__ == '__main__':
  main()
