"""Spam among 5,574 text messages (Almeida et al., 2011), by a convolutional network on words.

A fifth of the messages is the test part, a tenth chooses the checkpoint. What is looked for is spam, 13 % of them, so
its F1 says more than the accuracy.

python -m dl.train --config=experiments/text/sms_spam.py --workdir=runs/sms_spam
python -m dl.predict --workdir=runs/sms_spam --step=best --inputs=messages.txt --lines

The data is the SMS Spam Collection of the UCI repository (https://archive.ics.uci.edu/dataset/228): the file
SMSSpamCollection goes into data/sms_spam, or --config.data.path=... names another place.
Cite: kim2014convolutional, almeida2011contributions
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='classify.Classify', positive='spam'),
    model=dict(
      name='text.TextCNN', num_classes=2, vocab_size=4000, embedding=64, features=64, embedding_dropout=0.2, dropout=0.5
    ),
    data=dict(
      name='texts.Labelled',
      path='data/sms_spam/SMSSpamCollection',
      header=False,
      label=0,
      text=1,
      lowercase=True,
      min_count=2,
      length=128,
      test=0.2,
      validation=0.1,
      batch_size=64,
    ),
    optim=dict(
      adam=dict(name='adamw', weight_decay=0.01, learning_rate=dict(name='cosine_decay_schedule', init_value=2e-3))
    ),
    train_for='10 epochs',
    eval=dict(validation=dict(split='validation', batch_size=256), test=dict(split='test', batch_size=256, of='best')),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/f1', mode='max'),
    expect={'test/f1': (0.944, 0.02), 'test/accuracy': (0.986, 0.006)},
    baselines={
      'test/f1': {'linear SVM on TF-IDF': 0.951},
      'test/accuracy': {'linear SVM on TF-IDF': 0.987, 'SVM, 80/20 (2021)': 0.979},
    },
  )
