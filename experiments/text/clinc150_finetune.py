"""Which of 150 intents a query has, from ten labelled queries each: a small BERT which has read all of them before.

mlm_pretrain has filled in blanks in the 15,000 training queries of CLINC150 (Larson et al., 2019) without their labels.
Here a tenth of them has its labels, 1,500 queries, drawn by class. Its counterpart starts from scratch, with the same
WordPieces, which are those of the whole training part. Both are evaluated on the usual 4,500 queries in scope.

python -m dl.train --config=experiments/text/mlm_pretrain.py --workdir=runs/mlm_pretrain
python -m dl.train --config=experiments/text/clinc150_finetune.py:finetune --workdir=runs/clinc150_finetune
python -m dl.train --config=experiments/text/clinc150_finetune.py:scratch --workdir=runs/clinc150_scratch

The data is data_full.json of https://github.com/clinc/oos-eval: it goes into data/clinc150.
Cite: devlin2019bert, larson2019evaluation
"""

from dl.config import config

FILE = 'data/clinc150/data_full.json'
PRETRAINED = 'runs/mlm_pretrain'


def get_config(stage='finetune'):
  """The experiment: 'finetune' (init_from.path is the run to start from), or 'scratch'."""
  if stage not in ('finetune', 'scratch'):
    raise ValueError(f'expected finetune or scratch, got {stage!r}')
  init_from = dict(name='run', path=PRETRAINED, exclude=('^transform', '^out'))
  return config(
    seed=0,
    task=dict(name='classify.Classify'),
    model=dict(
      name='bert.BERT',
      head='mean',
      num_outputs=150,
      vocab_size=3000,
      length=32,
      layers=4,
      heads=4,
      width=128,
      hidden=512,
      segments=1,
      dropout=0.1,
    ),
    init_from=init_from if stage == 'finetune' else None,
    data=dict(
      name='texts.Labelled',
      path=dict(train=f'{FILE}:train', test=f'{FILE}:test'),
      validation=0.9,  # all but a tenth, whose labels are not used
      text=0,
      label=1,
      vocabulary=PRETRAINED,
      length=32,
      batch_size=32,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.05,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=5e-4, warmup='10%'),
      ),
    ),
    train_for='40 epochs',
    eval=dict(test=dict(split='test', batch_size=250)),
    eval_every='10 epochs',
  )
