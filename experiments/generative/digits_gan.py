"""A small DCGAN draws handwritten digits (Goodfellow et al., 2014; Radford et al., 2016), 8x8 pixels.

python -m dl.train --config=experiments/generative/digits_gan.py --workdir=runs/digits_gan
python -m dl.sample --workdir=runs/digits_gan --count=64 --output=digits.png

Expect: a LeNet trained on the real digits sees each class in 7 to 13 % of 1,000 samples (3 to 25 % at worst), with a
mean confidence of 0.93 +/- 0.03 (it has 0.99 for real ones). TIME on 2 CPU cores.
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='gan.GAN', objective='nonsaturating'),
    model=dict(
      generator=dict(name='gan.ConvGenerator', latent_size=64, features=(64, 32), base=2, channels=1),
      discriminator=dict(name='gan.ConvDiscriminator', features=(32, 64), base=2),
    ),
    data=dict(name='sklearn.Digits', batch_size=64),
    optim=dict(
      generator=dict(
        adam=dict(name='adam', b1=0.5, learning_rate=dict(name='linear_schedule', init_value=1e-3, end_value=0.0)),
        ema=dict(name='params_ema', decay=0.999),
      ),
      discriminator=dict(
        adam=dict(name='adam', b1=0.5, learning_rate=dict(name='linear_schedule', init_value=5e-4, end_value=0.0)),
      ),
    ),
    train_for='6000 steps',
    eval=dict(test=dict(split='test')),
    eval_every='1500 steps',
    artifacts_every='1500 steps',
  )
