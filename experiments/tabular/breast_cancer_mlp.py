"""A small MLP on the Wisconsin diagnostic breast cancer set (Street et al., 1993), by 5-fold cross-validation.

The config is one fold of five, stratified; its argument is the fold, 0 to 4. The number to compare is the mean.

python -m dl.train --config=experiments/tabular/breast_cancer_mlp.py:0 --workdir=runs/breast_cancer_mlp_0

Expect: test accuracy 0.975 +/- 0.02 (the mean of the folds, over 3 seeds, was 0.974), in about 10 s a fold on 2 CPU
cores.
Cite: street1993nuclear, rumelhart1986learning, srivastava2014dropout, pedregosa2011scikit
"""

from dl.config import config


def get_config(fold='0'):
  """The experiment on one fold."""
  return config(
    seed=0,
    task=dict(name='classify.Classify', normalize=True, label_smoothing=0.1),
    model=dict(name='mlp.MLP', hidden=(64, 32), num_outputs=2, dropout=0.3),
    data=dict(name='sklearn.BreastCancer', batch_size=32, folds=5, fold=int(fold)),
    optim=dict(
      adam=dict(
        name='adamw',
        weight_decay=0.1,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=2e-3, warmup='5%'),
      )
    ),
    train_for='40 epochs',
    eval=dict(test=dict(split='test')),
    eval_every='10 epochs',
    expect={'test/accuracy': (0.975, 0.02)},
  )
