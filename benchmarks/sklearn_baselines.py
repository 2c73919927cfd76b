"""What scikit-learn reaches on the splits of our experiments: python -m benchmarks.sklearn_baselines"""

import warnings
from collections.abc import Sequence

import numpy as np
from absl import app
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from dl.data.parts import part
from dl.data.sources.sklearn import BreastCancer, Diabetes, Digits


def diabetes() -> None:
  """R2 on the diabetes test part: MLPRegressor (three seeds) with several penalties, and ridge regression."""
  train, test = (part(Diabetes(), s).columns for s in ('train', 'test'))
  for alpha in (1e-4, 1.0, 10.0):
    scores = []
    for seed in range(3):
      network = make_pipeline(StandardScaler(), MLPRegressor(alpha=alpha, max_iter=500, random_state=seed))
      model = TransformedTargetRegressor(network, transformer=StandardScaler())
      scores.append(model.fit(train['features'], train['target']).score(test['features'], test['target']))
    print(f'diabetes, MLPRegressor(alpha={alpha:g}), scaled inputs and targets: R2 {np.mean(scores):.3f}')
  ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 3, 20))).fit(train['features'], train['target'])
  print(f'diabetes, ridge regression: R2 {ridge.score(test["features"], test["target"]):.3f}')


def digits() -> None:
  """Accuracy on the digits test part: an RBF support vector machine."""
  train, test = (part(Digits(), s).columns for s in ('train', 'test'))
  flat = lambda x: x.reshape(len(x), -1)
  model = SVC(C=10, gamma='scale').fit(flat(train['image']), train['label'])
  print(f'digits, RBF SVM: accuracy {model.score(flat(test["image"]), test["label"]):.4f}')


def breast_cancer() -> None:
  """Mean accuracy over the five folds: logistic regression."""
  scores = []
  for fold in range(5):
    train, test = (part(BreastCancer(), s, folds=5, fold=fold).columns for s in ('train', 'test'))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(train['features'], train['label'])
    scores.append(model.score(test['features'], test['label']))
  print(f'breast cancer, logistic regression, 5 folds: accuracy {np.mean(scores):.4f}')


def main(_: Sequence[str]) -> None:
  """Prints all of them."""
  warnings.simplefilter('ignore', ConvergenceWarning)
  diabetes()
  digits()
  breast_cancer()


if __name__ == '__main__':
  app.run(main)
