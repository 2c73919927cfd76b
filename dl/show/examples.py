"""Examples in tables: which one a row is about, and which are shown."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int


def place(examined: Mapping[str, np.ndarray], i: int) -> dict[str, Any]:
  """The last columns of a row about an example: `index` in the data, and `file`, where it has one.

  Args:
    examined: `index` and `file`, if known, of all the examples (`dl.contract.evaluator.Evaluator.findings`).
    i: which of them.
  """
  index = {'index': int(examined['index'][i]) if 'index' in examined else int(i)}
  return index | ({'file': str(examined['file'][i])} if 'file' in examined else {})


def largest(values: Float[np.ndarray, ' n'], count: int) -> Int[np.ndarray, ' k']:
  """Indices of the largest values, in order; NaN is the largest."""
  return np.argsort(-np.nan_to_num(values, nan=np.inf), kind='stable')[:count]
