"""A small DCGAN draws handwritten digits (Goodfellow et al., 2014; Radford et al., 2016), 8x8 pixels.

python -m dl.train --config=experiments/generative/digits_gan.py --workdir=runs/digits_gan
python -m dl.sample --workdir=runs/digits_gan --count=64 --output=digits.png

Expect: the LeNet of vision/digits_lenet.py sees each class in 7 to 13 % of 1,000 samples (3 to 25 % at worst), with a
mean confidence of 0.83 +/- 0.03; its smoothed labels allow it 0.91 for real ones. About 1.5 minutes on 2 CPU cores.
Without the penalty of Mescheder et al. (2018) and with group normalization the samples lose whole classes.
Judge a run: python -m dl.evaluate --workdir=runs/digits_gan --by=judge.Judge --by.classifier=runs/digits_lenet
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='gan.GAN', objective='nonsaturating', r1=0.3),
    model=dict(
      generator=dict(name='gan.ConvGenerator', latent_size=64, features=(64, 32), base=2, channels=1),
      discriminator=dict(name='gan.ConvDiscriminator', features=(32, 64), base=2, norm='group'),
    ),
    data=dict(name='sklearn.Digits', batch_size=64),
    optim=dict(
      generator=dict(
        adam=dict(name='adam', b1=0.5, learning_rate=dict(name='linear_schedule', init_value=1e-3, end_value=0.0)),
        ema=dict(name='params_ema', decay=0.999),
      ),
      discriminator=dict(
        adam=dict(name='adam', b1=0.5, learning_rate=dict(name='linear_schedule', init_value=1e-3, end_value=0.0)),
      ),
    ),
    train_for='10000 steps',
    eval=dict(test=dict(split='test')),
    eval_every='2500 steps',
    artifacts_every='2500 steps',
    cite=('mescheder2018which',),
  )
