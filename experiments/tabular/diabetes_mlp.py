"""A small MLP that predicts the progression of diabetes from ten measurements (442 patients).

python -m dl.train --config=experiments/tabular/diabetes_mlp.py --workdir=runs/diabetes_mlp
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='regress.Regress', normalize=True, normalize_target=True),
    model=dict(name='mlp.MLP', hidden=(32,), num_outputs=1, activation='tanh'),
    data=dict(name='sklearn.Diabetes', batch_size=32),
    optim=dict(
      adam=dict(
        name='adamw',
        weight_decay=0.3,
        mask='kernel$',
        learning_rate=dict(name='warmup_cosine_decay_schedule', peak_value=3e-3, warmup='5%'),
      ),
      ema=dict(name='params_ema', decay=0.98),
    ),
    train_for='30 epochs',
    eval=dict(test=dict(split='test')),
    eval_every='5 epochs',
    expect={'test/r2': (0.45, 0.05)},
  )
