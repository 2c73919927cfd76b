"""docs/models.md: it is what its numbers and the recorded runs say, and the numbers are those of the code."""

import json

import pytest
from reference import TOLERANCES
from references import families

from benchmarks import models

ROWS = [row for family in families() for row in family.networks]
NUMBERS = json.loads(models.NUMBERS.read_text())
CHEAP = [row for row in ROWS if NUMBERS[row.key]['flops'] < 1e8]


def test_the_table_is_current():
  assert models.TABLE.read_text() == models.table(), f'run: {models.COMMAND} --table'


def test_every_network_is_counted_and_compared():
  assert list(NUMBERS) == [row.key for row in ROWS], f'run: {models.COMMAND}, with --only=NAME for a few'
  for key, numbers in NUMBERS.items():
    found = {k: v for k, v in numbers['parity'].items() if k in TOLERANCES}
    if found.get('gradient', 0) >= TOLERANCES['gradient']:
      assert 'gradient in float64' in found, key
      del found['gradient']
    assert all(v < TOLERANCES[k] for k, v in found.items()), (key, found)
    assert found or numbers['parity']['tensors'], key


@pytest.mark.parametrize('row', CHEAP, ids=lambda row: row.key)
def test_numbers_are_those_of_the_code(row):
  recorded = {k: v for k, v in NUMBERS[row.key].items() if k != 'parity'}
  assert models.counted(row) == recorded, f'run: {models.COMMAND} --only={row.name}'


def test_experiments_find_their_rows():
  records = [
    {
      'experiment': name,
      'argument': '',
      'seed': seed,
      'parameters': 1000,
      'metrics': {metric: 0.5 + seed, 'test/dice': 0.5},
    }
    for name, metric in (
      ('vision/fashion_vgg16', 'test/accuracy'),
      ('vision/fashion_resnet18', 'test/accuracy'),
      ('vision/digits_vit', 'test/accuracy'),
      ('vision/transfer_mnist_to_digits:finetune', 'test/accuracy'),
      ('vision/vnc_unet', 'test/mean_iou'),
      ('generative/digits_gan', 'test/loss'),  # has no row
    )
    for seed in range(2)
  ]
  found = models.measured(records, ROWS)
  assert set(found) == {
    'vgg.VGG16, batch_norm=True', "resnet.ResNet18, stem='cifar'", 'vit.ViT as in vision/digits_vit', 'lenet.LeNet5',
    'unet.UNet as in vision/vnc_unet',
  }  # fmt: skip
  assert found['lenet.LeNet5'] == [
    'Digits test/accuracy 1.0000 ([transfer_mnist_to_digits:finetune]'
    '(../experiments/vision/transfer_mnist_to_digits.py); 1,000 parameters, 2 seeds)'
  ]
