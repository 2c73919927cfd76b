"""Attention of one text to another, as a picture."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8

from dl.show.pictures import figure, rasterize


def picture(
  weights: Float[np.ndarray, 'layers heads n m'], source: Sequence[str], target: Sequence[str]
) -> UInt8[np.ndarray, 'h w 3']:
  """How much each token of the target looks at each one of the source: a row a layer, a column a head.

  Args:
    weights: of each token of the target, which add to 1 over the source.
    source: its tokens as text.
    target: likewise.
  """
  layers, heads, n, m = weights.shape
  cell = 0.16
  fig = figure(1.4 + heads * (m * cell + 0.25), 1.2 + layers * (n * cell + 0.35), dpi=100)
  axes = fig.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
  for layer in range(layers):
    for head in range(heads):
      at = axes[layer, head]
      at.imshow(weights[layer, head], vmin=0, vmax=1, cmap='Blues', aspect='auto', interpolation='nearest')
      at.set_title(f'layer {layer + 1}, head {head + 1}', fontsize=7)
      at.tick_params(length=0)
      at.set_xticks(range(m), source, rotation=90, fontsize=7, parse_math=False)
      at.set_yticks(range(n), target, fontsize=7, parse_math=False)
  return rasterize(fig)
