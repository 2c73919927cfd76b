"""What a regression gets wrong, to look at: predictions against the truth, their errors, and a constant beside them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from dl.show.examples import largest, place
from dl.show.pictures import figure, rasterize
from dl.show.words import rounded, tick

_DOTS = 2000  # examples beyond which dots would cover each other


def against(
  target: Float[np.ndarray, ' n'], predicted: Float[np.ndarray, ' n'], name: str
) -> UInt8[np.ndarray, 'h w 3']:
  """Each example at its (true, predicted) value of `name`, with the line on which the two are equal."""
  fig = figure(4.8, 4.5)
  axes = fig.add_subplot()
  _draw(fig, axes, target, predicted)
  ends = [min(target.min(), predicted.min()), max(target.max(), predicted.max())]
  axes.plot(ends, ends, color='k', linewidth=1, linestyle='--', label='equal')
  axes.legend(frameon=False)
  axes.set_xlabel(f'true {name}', parse_math=False)
  axes.set_ylabel(f'predicted {name}', parse_math=False)
  _ticks(axes.xaxis, 5)
  _ticks(axes.yaxis, 6)
  return rasterize(fig)


def residuals(
  target: Float[np.ndarray, ' n'], predicted: Float[np.ndarray, ' n'], name: str
) -> UInt8[np.ndarray, 'h w 3']:
  """The errors (predicted - true) over the predicted value of `name`, and how often each occurs."""
  error = predicted - target
  fig = figure(6.0, 4.5)
  axes, counts = fig.subplots(1, 2, sharey=True, width_ratios=(3, 1))
  _draw(fig, axes, predicted, error)
  counts.hist(error, bins=min(40, max(5, int(np.sqrt(len(error))))), orientation='horizontal', color='C0')
  for a in (axes, counts):
    a.axhline(0, color='k', linewidth=1, linestyle='--')
  axes.set_xlabel(f'predicted {name}', parse_math=False)
  axes.set_ylabel('predicted - true')
  counts.set_xlabel('examples')
  _ticks(axes.xaxis, 5)
  _ticks(axes.yaxis, 6)
  _ticks(counts.xaxis, 2)
  return rasterize(fig)


def scores(target: Float[np.ndarray, ' n'], predicted: Float[np.ndarray, ' n']) -> dict[str, float | str]:
  """MAE, RMSE and R2, in five digits; no R2 of a target which is the same throughout."""
  error, spread = predicted - target, ((target - target.mean()) ** 2).sum()
  squares = (error**2).sum()
  values = {'mae': np.abs(error).mean(), 'rmse': np.sqrt(squares / len(error))}
  return {k: rounded(v, 5) for k, v in values.items()} | {'r2': round(1 - squares / spread, 4) if spread else ''}


def worst(examined: Mapping[str, np.ndarray], shown: int) -> list[dict[str, Any]]:
  """The `shown` examples with the largest errors, an error that is no number first: a table."""
  error = examined['predicted'] - examined['target']
  number = lambda value: rounded(value, 7)
  return [
    {
      'true': number(examined['target'][i]),
      'predicted': number(examined['predicted'][i]),
      'error': number(error[i]),
      **place(examined, i),
    }
    for i in largest(np.abs(error), shown)
  ]


def _ticks(axis: Any, most: int) -> None:
  """At most so many intervals on an axis, with short labels, which do not run into each other."""
  from matplotlib.ticker import MaxNLocator

  axis.set_major_locator(MaxNLocator(most))
  axis.set_major_formatter(lambda value, _: tick(value))


def _draw(fig: Any, axes: Any, x: Float[np.ndarray, ' n'], y: Float[np.ndarray, ' n']) -> None:
  """A dot an example; of many, how many there are in each place."""
  if len(x) <= _DOTS:
    axes.scatter(x, y, s=12, alpha=0.5, linewidths=0)
  else:
    fig.colorbar(axes.hexbin(x, y, gridsize=50, bins='log', mincnt=1, cmap='Blues'), label='examples')
  axes.grid(alpha=0.25)
