"""Facts on restaurants to sentences, E2E NLG (Novikova et al., 2017), by a small Transformer.

Nothing is delexicalised: names and prices are written as they are, in the tokens of one byte-level BPE of both sides,
which also gives spaces back as they were. All names of the test part are in the training part. BLEU is sacrebleu's,
with capitals, of what four beams find, against all the sentences of each of the 630 sets of facts; the
published number is of the challenge's own script. Not yet run.

python -m dl.train --config=experiments/text/e2e_seq2seq.py --workdir=runs/e2e_seq2seq
python -m dl.predict --workdir=runs/e2e_seq2seq --step=best --inputs=facts.csv

The data is e2e-dataset.zip of https://github.com/tuetschek/e2e-dataset: it goes into data/e2e_nlg.
Cite: vaswani2017attention, novikova2017e2e, sennrich2016neural, post2018call
"""

from dl.config import config

FILES = 'data/e2e_nlg/e2e-dataset.zip:e2e-dataset'


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(
      name='seq2seq.Seq2Seq',
      label_smoothing=0.1,
      beams=4,
      sentences=('name[The Mill], eatType[pub], priceRange[less than £20], area[riverside], near[Café Rouge]',),
    ),
    model=dict(
      name='seq2seq.Transformer',
      vocab_size=1024,
      length=128,
      layers=2,
      heads=4,
      width=128,
      hidden=512,
      dropout=0.1,
    ),
    data=dict(
      name='pairs.Pairs',
      path=dict(train=f'{FILES}/trainset.csv', validation=f'{FILES}/devset.csv', test=f'{FILES}/testset_w_refs.csv'),
      source='mr',
      target='ref',
      vocabulary=dict(name='bpe', size=1024),
      buckets=((43, 24), (43, 36), (43, 52)),
      batch_size=64,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adam',
        b2=0.98,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=1e-3, warmup='10%'),
      ),
    ),
    train_for='4 epochs',
    eval=dict(
      validation=dict(split='validation', batch_size=256),
      test=dict(by='decoded.Decoded', bleu=True, beams=4, split='test', references=True, batch_size=90, of='best'),
    ),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/perplexity', mode='min'),
    baselines={'test/bleu': {'TGen (Novikova and others)': 0.659}},
  )
