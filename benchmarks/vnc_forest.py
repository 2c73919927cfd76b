"""What a random forest on filter features of each pixel reaches where experiments/vision/vnc_unet.py has its U-Net.

python -m benchmarks.vnc_forest --path=data/groundtruth-drosophila-vnc

Features as in interactive segmentation tools: at five scales, the smoothed image, its gradient magnitude and Laplacian,
and the eigenvalues of its Hessian and of its structure tensor. The forest is trained on pixels of the 15 training
sections drawn evenly at random, and judged on all pixels of the 5 test sections; a second line chooses the threshold of
the probability by the out-of-bag predictions, so that a bias towards the more frequent class is not held against it.
"""

import concurrent.futures
import time
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from jaxtyping import Float, UInt8
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier

from dl import config
from dl.contract.metrics import Dice, IoU, MeanIoU
from dl.data.parts import part
from dl.data.sources.segmentation import Pairs

PATH = flags.DEFINE_string('path', None, "Folder or .zip of the data; the config's if not given.")
PIXELS = flags.DEFINE_integer('pixels', 20_000, 'Training pixels of each section.')
TREES = flags.DEFINE_integer('trees', 100, 'Trees of the forest.')
SECTIONS = flags.DEFINE_integer('sections', None, 'Test sections; all if not given.')

SCALES = (0.7, 1.0, 1.6, 3.5, 7.0)


def features(image: UInt8[np.ndarray, 'h w']) -> Float[np.ndarray, 'pixels f']:
  """The filters of each pixel."""
  x = image.astype(np.float32) / 255
  found = [x]
  for scale in SCALES:
    filtered = lambda order, scale=scale: ndimage.gaussian_filter(x, scale, order)
    down, right = filtered((1, 0)), filtered((0, 1))
    hessian = filtered((2, 0)), filtered((1, 1)), filtered((0, 2))
    tensor = [ndimage.gaussian_filter(a * b, 2 * scale) for a, b in ((down, down), (down, right), (right, right))]
    found += [
      filtered(0),
      np.hypot(down, right),
      hessian[0] + hessian[2],
      *eigenvalues(*hessian),
      *eigenvalues(*tensor),
    ]
  return np.stack([f.ravel() for f in found], 1)


def eigenvalues(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Those of the symmetric matrices [[a, b], [b, c]], the larger first."""
  middle, radius = (a + c) / 2, np.hypot((a - c) / 2, b)
  return middle + radius, middle - radius


def main(argv: Sequence[str]) -> None:
  """Trains and prints."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected: {argv[1:]}')
  start = time.time()
  data = config.load('experiments/vision/vnc_unet.py').data
  options = {k: data[k] for k in ('path', 'images', 'labels', 'splits')} | ({'path': PATH.value} if PATH.value else {})
  train, test = (part(Pairs(**options), split).columns for split in ('train', 'test'))
  rng = np.random.default_rng(0)
  drawn = [rng.choice(image.size, PIXELS.value, replace=False) for image in train['image']]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    x = np.concatenate(list(pool.map(lambda image, at: features(image[..., 0])[at], train['image'], drawn)))
  y = np.concatenate([labels.ravel()[at] for labels, at in zip(train['label_map'], drawn, strict=True)])
  forest = RandomForestClassifier(TREES.value, min_samples_leaf=5, oob_score=True, n_jobs=-1, random_state=0).fit(x, y)
  share = forest.oob_decision_function_[:, 1]
  thresholds = np.linspace(0.2, 0.8, 61)
  best = max(thresholds, key=lambda t: MeanIoU(counts(y, share > t)).compute())
  print(f'{len(y)} training pixels, {x.shape[1]} features, {TREES.value} trees: {time.time() - start:.0f} s')
  found = {0.5: 0, best: 0}
  for image, labels in zip(test['image'][: SECTIONS.value], test['label_map'], strict=False):
    probability = forest.predict_proba(features(image[..., 0]))[:, 1]
    for t in found:
      found[t] += counts(labels.ravel(), probability > t)
  for t, total in found.items():
    iou = IoU(total).compute()
    print(
      f'threshold {t:.2f}: mean IoU {MeanIoU(total).compute():.4f}, mean Dice {Dice(total).compute():.4f}, '
      f'membrane IoU {iou[1]:.4f}, accuracy {np.trace(total) / total.sum():.4f}'
    )
  print(f'{time.time() - start:.0f} s')


def counts(label: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """Counts of (true class, predicted class)."""
  return np.bincount(2 * label.astype(int) + predicted, minlength=4).reshape(2, 2)


if __name__ == '__main__':
  app.run(main)
