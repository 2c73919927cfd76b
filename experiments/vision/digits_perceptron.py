"""Rosenblatt's perceptron, as multinomial logistic regression, on handwritten digits (Rosenblatt, 1958).

One linear layer on the 8x8 digits of scikit-learn: what the other digit experiments have to beat.

python -m dl.train --config=experiments/vision/digits_perceptron.py --workdir=runs/digits_perceptron

Expect: test accuracy 0.958 +/- 0.006 (the mean of 3 seeds was 0.959), in about 10 s on 2 CPU cores.
Cite: rosenblatt1958perceptron, alpaydin1998optical, pedregosa2011scikit
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
    expect={'test/accuracy': (0.958, 0.006)},
  )
