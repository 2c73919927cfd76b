"""A small MLP that predicts the progression of diabetes from ten measurements of 442 patients (Efron et al., 2004).

The network is that of scikit-learn's MLPRegressor, with an L2 penalty which 353 patients call for;
`python -m benchmarks.sklearn_baselines` prints what MLPRegressor reaches on the same split.

python -m dl.train --config=experiments/tabular/diabetes_mlp.py --workdir=runs/diabetes_mlp

Expect: test R2 0.35 +/- 0.02 (the mean of 3 seeds was 0.351), in about 10 s on 2 CPU cores.
Cite: efron2004least, rumelhart1986learning, pedregosa2011scikit
"""

from dl.config import config


def get_config():
  """The experiment."""
  return config(
    seed=0,
    task=dict(name='regress.Regress', normalize=True, normalize_target=True),
    model=dict(name='mlp.MLP', hidden=(100,), num_outputs=1),
    data=dict(name='sklearn.Diabetes', batch_size=32),
    optim=dict(
      l2=dict(name='add_decayed_weights', weight_decay=0.1, mask='kernel$'),
      adam=dict(name='adam', learning_rate=dict(name='cosine_decay_schedule', init_value=3e-3)),
    ),
    train_for='100 epochs',
    eval=dict(test=dict(split='test')),
    eval_every='10 epochs',
    expect={'test/r2': (0.35, 0.02)},
    baselines={'test/r2': {"scikit-learn's MLPRegressor": 0.354}},
  )
