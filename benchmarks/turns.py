"""Sides of a comparison which take turns, so that a noisy machine disturbs all alike."""

import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

ROOT = pathlib.Path(__file__).parents[1]

Turn = Callable[[], None]


def repeated(step: Callable[[], Any], count: int) -> Turn:
  """A turn: `count` steps, and the end of what they started."""

  def turn():
    for _ in range(count):
      out = step()
    jax.block_until_ready(out)

  return turn


def take_turns(sides: dict[str, Turn], turns: int) -> dict[str, list[float]]:
  """Seconds of each measured turn; one before them, which compiles and warms up, is not counted."""
  seconds = {name: [] for name in sides}
  for i in range(turns + 1):
    for name, turn in sides.items():
      began = time.perf_counter()
      turn()
      if i:
        seconds[name].append(time.perf_counter() - began)
  return seconds


def against(seconds: dict[str, list[float]], first: str) -> Iterator[tuple[str, float, float]]:
  """(side, median seconds, median of its seconds over those of the first in the same turn)."""
  for name, values in seconds.items():
    ratios = [v / f for v, f in zip(values, seconds[first], strict=True)]
    yield name, statistics.median(values), statistics.median(ratios)


def references() -> Any:
  """tests/reference.py, which knows how to import torchvision, timm and transformers."""
  sys.path.insert(0, str(ROOT / 'tests'))
  import reference

  return reference
