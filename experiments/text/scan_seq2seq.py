"""Commands to actions, SCAN (Lake and Baroni, 2018), by a small Transformer.

`--config=experiments/text/scan_seq2seq.py:length` and `:jump` are the splits on which a network has to put together
what it knows: longer actions than it has learned from, and a command that it has seen alone.

python -m dl.train --config=experiments/text/scan_seq2seq.py --workdir=runs/scan_seq2seq
python -m dl.predict --workdir=runs/scan_seq2seq --inputs=commands.txt --lines

The data is the files of https://github.com/brendenlake/SCAN, packed by gzip: tasks_train_simple.txt.gz and the others
go into data/scan.
Cite: vaswani2017attention, lake2018generalization
"""

from dl.config import config

FILES = {'simple': 'simple', 'length': 'length', 'jump': 'addprim_jump'}


def get_config(split='simple'):
  """The experiment, on one of the splits."""
  file = f'data/scan/tasks_{{}}_{FILES[split]}.txt.gz'
  return config(
    seed=0,
    task=dict(name='seq2seq.Seq2Seq', sentences=('jump around left twice and walk right',)),
    model=dict(
      name='seq2seq.Transformer',
      vocab_size=15,
      target_vocab_size=8,
      length=50,
      layers=2,
      heads=4,
      width=64,
      hidden=128,
      dropout=0.1,
    ),
    data=dict(
      name='pairs.Pairs',
      path=dict(train=file.format('train'), test=file.format('test')),
      pattern='IN: (?P<source>.*) OUT: (?P<target>.*)',
      target_vocabulary='words',
      buckets=((9, 12), (9, 24)),
      validation=0.05,
      batch_size=64,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adam',
        b2=0.98,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=2e-3, warmup='5%'),
      ),
    ),
    train_for='25 epochs',
    eval=dict(
      validation=dict(split='validation', batch_size=256),
      test=dict(split='test', batch_size=256, of='best'),
      written=dict(by='decoded.Decoded', split='test', batch_size=256, of='best'),
    ),
    eval_every='2.5 epochs',
    keep=dict(best=1, metric='validation/exact_match', mode='max'),
  )
