"""Forecasts of time series, to look at, with the end of the look-back and the truth."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from dl.show.pictures import figure, rasterize


def windows(
  pasts: Float[np.ndarray, 'k n'],
  truths: Float[np.ndarray, 'k h'],
  forecasts: Float[np.ndarray, 'k h'],
  titles: Sequence[str],
  name: str,
) -> UInt8[np.ndarray, 'height width 3']:
  """A panel for each window of one channel, `name`; step 0 is the last of the look-back."""
  columns = min(2, len(pasts))
  rows = -(-len(pasts) // columns)
  fig = figure(4.4 * columns, 2.1 * rows + 0.3, dpi=100)
  panels = np.atleast_1d(fig.subplots(rows, columns)).ravel()
  for axes in panels[len(pasts) :]:
    axes.set_axis_off()
  before, after = np.arange(1 - pasts.shape[1], 1), np.arange(1, truths.shape[1] + 1)
  for axes, past, truth, forecast, title in zip(panels, pasts, truths, forecasts, titles, strict=False):
    axes.plot(before, past, color='0.55', linewidth=1.1, label='look-back')
    _join(axes, after, past[-1], truth, color='k', linewidth=1.2, label='truth')
    _join(axes, after, past[-1], forecast, color='C1', linewidth=1.6, label='forecast')
    axes.axvline(0, color='0.8', linewidth=0.8, zorder=0)
    axes.set_title(title, fontsize=9, parse_math=False)
    axes.tick_params(labelsize=8)
    axes.spines[['top', 'right']].set_visible(False)
  for axes in panels[max(len(pasts) - columns, 0) : len(pasts)]:  # the lowest of each column
    axes.set_xlabel('steps ahead', fontsize=9)
  for axes in panels[::columns]:
    axes.set_ylabel(name, fontsize=9, parse_math=False)
  handles, labels = panels[0].get_legend_handles_labels()
  fig.legend(handles, labels, loc='outside upper center', ncols=3, frameon=False, fontsize=9)
  return rasterize(fig)


def _join(axes: Any, steps: Any, last: Any, values: Any, **style: Any) -> None:
  """A line from the last value of the look-back on."""
  axes.plot(np.concatenate([[0], steps]), np.concatenate([[last], values]), **style)
