"""Whether less or more of a metric is better, by its name: for runs whose `run.json` does not say."""

import re

from dl.contract.metrics import Better

LOWER = re.compile(
  r'loss|error|perplexity|bits|divergence|distance|(^|_)(nll|mse|mae|rmse|fid|kl|ece|brier|[wc]er)(_|$)'
)
HIGHER = re.compile(
  r'accuracy|return|score|precision|recall|confidence|success|reward|(^|_)(auc|auroc|f1|r2|bleu|iou|dice|psnr|ssim)(_|$)'
)
"""Names of metrics of which less, or else more, is better."""

NEITHER = re.compile(r'(generator|discriminator|policy|actor)_loss')
"""Losses of players, of which less may be the fault of another one."""


def direction(metric: str) -> Better:
  """Whether less or more of a metric is better, by its name; None if that does not say."""
  return None if NEITHER.search(metric) else 'min' if LOWER.search(metric) else 'max' if HIGHER.search(metric) else None
