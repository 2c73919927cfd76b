"""What scikit-learn reaches on the splits of our experiments: python -m benchmarks.sklearn_baselines"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import f1_score
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from dl.config import load
from dl.data.parts import part
from dl.data.sources.sklearn import BreastCancer, Diabetes, Digits
from dl.data.sources.texts import Labelled


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


def texts() -> None:
  """Messages, sentences and queries: a linear support vector machine on the TF-IDF of words and pairs of them.

  The tokens are those of the experiments; their data has to be in data/.
  """

  def predicted(data: dict[str, Any], *splits: str) -> list[tuple[np.ndarray, np.ndarray]]:
    parts = [Labelled(**data, split=split).columns for split in ('train', *splits)]
    as_text = lambda tokens: [' '.join(map(str, row[row >= 0])) for row in tokens]
    model = make_pipeline(TfidfVectorizer(token_pattern=r'\S+', ngram_range=(1, 2), sublinear_tf=True), LinearSVC())
    model.fit(as_text(parts[0]['tokens']), parts[0]['label'])
    return [(part['label'], model.predict(as_text(part['tokens']))) for part in parts[1:]]

  def data(experiment: str) -> dict[str, Any]:
    found = load(f'experiments/text/{experiment}').data
    return {k: v for k, v in found.items() if k not in ('name', 'batch_size')}

  ((label, found),) = predicted(data('sms_spam.py'), 'test')
  print(f'SMS spam, linear SVM: accuracy {(label == found).mean():.4f}, F1 {f1_score(label, found):.4f}')
  for site in ('amazon', 'imdb', 'yelp'):
    ((label, found),) = predicted(data(f'sentiment_sentences.py:{site}'), 'test')
    print(f'sentiment of sentences, {site} held out, linear SVM: accuracy {(label == found).mean():.4f}')
  inside, outside = (
    (label == found).mean() for label, found in predicted(data('clinc150_intent.py'), 'test', 'out_of_scope')
  )
  print(f'CLINC150, linear SVM: accuracy in scope {inside:.4f}, recall out of scope {outside:.4f}')


def main(_: Sequence[str]) -> None:
  """Prints all of them."""
  warnings.simplefilter('ignore', ConvergenceWarning)
  diabetes()
  digits()
  breast_cancer()
  texts()


if __name__ == '__main__':
  app.run(main)
