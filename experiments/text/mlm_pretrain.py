"""A small BERT learns English from queries without labels: it fills in the words that are hidden in them.

The 15,000 queries are the training texts of CLINC150 (Larson et al., 2019), cut into WordPieces, whose classes are not
looked at; clinc150_finetune goes on from here. The metric is the share of hidden tokens that are found, 15 % of each
query, all of them behind `[MASK]`. The baseline sees the same masks (python -m benchmarks.masked).

python -m dl.train --config=experiments/text/mlm_pretrain.py --workdir=runs/mlm_pretrain
echo 'what is the [MASK] in paris' > blank.txt
python -m dl.predict --workdir=runs/mlm_pretrain --inputs=blank.txt --lines

The data is data_full.json of https://github.com/clinc/oos-eval: it goes into data/clinc150.
Cite: devlin2019bert, larson2019evaluation
"""

from dl.config import config

FILE = 'data/clinc150/data_full.json'


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(
      name='masked_lm.MaskedLanguageModel',
      sentences=(
        'what is the [MASK] in paris',
        'please set an [MASK] for seven tomorrow morning',
        'how do you say [MASK] in spanish',
        'i want to [MASK] a flight to boston',
      ),
    ),
    model=dict(
      name='bert.BERT', vocab_size=3000, length=32, layers=4, heads=4, width=128, hidden=512, segments=1, dropout=0.1
    ),
    data=dict(
      name='texts.Labelled',
      path=dict(train=f'{FILE}:train', validation=f'{FILE}:val', test=f'{FILE}:test'),
      text=0,
      label=1,
      vocabulary=dict(name='wordpiece', size=3000, lowercase=True),
      length=32,
      batch_size=64,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.01,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='5%'),
      ),
    ),
    train_for='30 epochs',
    eval=dict(validation=dict(split='validation', batch_size=256), test=dict(split='test', batch_size=256)),
    eval_every='2 epochs',
  )
