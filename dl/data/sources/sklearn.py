"""Small real data sets which come with scikit-learn and need no download."""

from typing import Any

import numpy as np

from dl.contract.info import Info
from dl.data.source import Arrays


class _Bundled(Arrays):
  """One of scikit-learn's bundled sets."""

  default_test = 0.2

  def __init__(self):
    columns, facts = self.load()
    super().__init__(columns, Info(**facts))

  def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(all the examples, facts about them)."""
    raise NotImplementedError


def _features(bunch: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  columns = {'features': bunch.data.astype(np.float32), 'label': bunch.target.astype(np.int32)}
  return columns, {
    'feature_names': tuple(str(n) for n in bunch.feature_names),
    'class_names': tuple(str(n) for n in bunch.target_names),
  }


class Digits(_Bundled):
  """1,797 handwritten digits: `image` [8, 8, 1] float32 in [0, 1], `label` 0 to 9; a test part of 360.

  The test part of the UCI set "Optical Recognition of Handwritten Digits" (Alpaydin & Kaynak, 1998).
  """

  default_test = 360

  def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from sklearn import datasets

    bunch = datasets.load_digits()
    image = (bunch.images[..., None] / 16).astype(np.float32)
    return {'image': image, 'label': bunch.target.astype(np.int32)}, {
      'class_names': tuple(str(n) for n in bunch.target_names)
    }


class BreastCancer(_Bundled):
  """569 tumours, benign or malignant: `features` [30], `label`. Wisconsin diagnostic set (Street et al., 1993)."""

  def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from sklearn import datasets

    return _features(datasets.load_breast_cancer())


class Wine(_Bundled):
  """178 wines of three cultivars: `features` [13], `label` (Aeberhard & Forina, 1991)."""

  def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from sklearn import datasets

    return _features(datasets.load_wine())


class Iris(_Bundled):
  """150 irises of three species: `features` [4], `label` (Fisher, 1936)."""

  def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from sklearn import datasets

    return _features(datasets.load_iris())


class Diabetes(_Bundled):
  """442 patients: `features` [10] as measured, `target` progression after a year (Efron et al., 2004)."""

  def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from sklearn import datasets

    bunch = datasets.load_diabetes(scaled=False)
    columns = {'features': bunch.data.astype(np.float32), 'target': bunch.target.astype(np.float32)}
    return columns, {'feature_names': tuple(bunch.feature_names), 'target_name': 'progression'}
