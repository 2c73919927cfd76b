"""Whether less or more of a metric is better."""

import re
from typing import Literal

from dl.contract.metrics import Metric

LOWER = re.compile(
  r'loss|error|perplexity|bits|divergence|distance|(^|_)(nll|mse|mae|rmse|fid|kl|ece|brier|[wc]er)(_|$)'
)
HIGHER = re.compile(
  r'accuracy|return|score|precision|recall|confidence|success|reward|(^|_)(auc|auroc|f1|r2|bleu|iou|dice|psnr|ssim)(_|$)'
)
"""Names of metrics of which less, or else more, is better."""


def direction(metric: str) -> Literal['min', 'max'] | None:
  """Whether less or more of a metric is better, by its name; None if that does not say."""
  return 'min' if LOWER.search(metric) else 'max' if HIGHER.search(metric) else None


def of_metric(metric: Metric, name: str) -> Literal['min', 'max'] | None:
  """Whether less or more is better: as the metric says, or else its name."""
  if metric.better is None:
    return direction(name)
  return None if metric.better == 'neither' else metric.better
