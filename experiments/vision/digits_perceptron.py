"""Rosenblatt's perceptron, as multinomial logistic regression, on handwritten digits.

python -m dl.train --config=experiments/vision/digits_perceptron.py --workdir=runs/digits_perceptron
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify'),
    model=dict(name='perceptron.Perceptron', num_classes=10),
    data=dict(name='sklearn.Digits', batch_size=64),
    optim=dict(adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=1e-2))),
    train_for='40 epochs',
    eval=dict(test=dict(split='test')),
    eval_every='4 epochs',
    expect={'test/accuracy': (0.95, 0.01)},
  )
