"""Names of diseases in the NCBI disease corpus (Dogan et al., 2014), by an LSTM in both directions and a CRF.

They are in the abstracts of articles. Words and characters are learned from the 5,424 sentences of the training part
alone, without vectors from elsewhere. The parts are those of the corpus; that of development chooses the checkpoint.
The metric is the F1 of whole spans.

python -m dl.train --config=experiments/text/ncbi_ner.py --workdir=runs/ncbi_ner
python -m dl.predict --workdir=runs/ncbi_ner --step=best --inputs=sentences.txt

The data is the corpus in columns, with the tags O, B-Disease and I-Disease: train.tsv, devel.tsv and test.tsv, which go
into data/ncbi_disease.
Cite: ma2016end, dogan2014ncbi, lafferty2001conditional
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='tagging.Tagging'),
    model=dict(name='tagger.BiLSTMTagger', num_outputs=3, vocab_size=4800, character_size=96),
    data=dict(
      name='conll.Conll',
      path=dict(
        train='data/ncbi_disease/train.tsv',
        validation='data/ncbi_disease/devel.tsv',
        test='data/ncbi_disease/test.tsv',
      ),
      lowercase=True,
      digits=True,
      min_count=2,
      length=64,
      batch_size=16,
    ),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        weight_decay=0.01,
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
    ),
    train_for='15 epochs',
    eval=dict(validation=dict(split='validation', batch_size=128), test=dict(split='test', batch_size=128, of='best')),
    eval_every='1 epoch',
    keep=dict(best=1, metric='validation/f1', mode='max'),
    expect={'test/f1': (0.792, 0.02)},
    baselines={'test/f1': {'LSTM-CRF with vectors from elsewhere': 0.846, 'BERT': 0.856}},
  )
