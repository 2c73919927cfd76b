"""What makers state of their accelerators, for plans. Rates are dense, in FLOP/s; sizes in bytes; links in bytes/s.

A sheet of one's own is a JSON object of the fields of `Device`, in a file.
"""

import dataclasses
import json
import pathlib
import re

from dl.config.bounds import Positive, Size
from dl.config.build import check_arguments
from dl.errors import ConfigError, first_line, nearest


@dataclasses.dataclass(frozen=True)
class Device:
  """One accelerator.

  Attributes:
    name: as its maker calls it.
    bfloat16: products in bfloat16, summed in float32; where there are no units for them (V100, T4), as float32.
    float32: products of float32 arrays at JAX's default precision: TF32 on NVIDIA's GPUs since Ampere, one bfloat16
      pass on TPUs.
    memory: its own.
    bandwidth: of that memory.
    link: to the devices of its node (NVLink, Infinity Fabric) or torus (ICI), in one direction, all links together;
      through PCIe where a card has none of these.
    node: devices which such links join.
    network: beyond the node, a device's share in one direction. No maker states it: 400 Gb/s a GPU, 200 for the A100,
      100 for the V100, and of the cards without links an eighth of 100, as clouds rent eight of them.
    host: to the memory of its host, in one direction (PCIe x16 of 3.0, 4.0 or 5.0); None where none is published.
  """

  name: str
  bfloat16: Positive
  float32: Positive
  memory: Positive
  bandwidth: Positive
  link: Positive
  node: Size
  network: Positive
  host: Positive | None = None

  def rate(self, precision: str) -> float:
    """FLOP/s at a config's precision."""
    return self.bfloat16 if precision == 'bfloat16' else self.float32


_PCIE3, _PCIE4, _PCIE5 = 16e9, 32e9, 64e9
_GIB = 2**30

DEVICES = {
  'v100': Device('NVIDIA V100 32GB SXM2', 15.7e12, 15.7e12, 32e9, 0.9e12, 150e9, 8, 12.5e9, _PCIE3),
  'a100': Device('NVIDIA A100 80GB SXM', 312e12, 156e12, 80e9, 2.04e12, 300e9, 8, 25e9, _PCIE4),
  'h100': Device('NVIDIA H100 SXM', 989e12, 494e12, 80e9, 3.35e12, 450e9, 8, 50e9, _PCIE5),
  'h200': Device('NVIDIA H200 SXM', 989e12, 494e12, 141e9, 4.8e12, 450e9, 8, 50e9, _PCIE5),
  'b200': Device('NVIDIA B200 SXM', 2250e12, 1125e12, 180e9, 7.7e12, 900e9, 8, 50e9),
  't4': Device('NVIDIA T4', 8.1e12, 8.1e12, 16e9, 0.32e12, _PCIE3, 8, 1.5625e9, _PCIE3),
  'a10': Device('NVIDIA A10', 125e12, 62.5e12, 24e9, 0.6e12, _PCIE4, 8, 1.5625e9, _PCIE4),
  'l4': Device('NVIDIA L4', 121e12, 60e12, 24e9, 0.3e12, _PCIE4, 8, 1.5625e9, _PCIE4),
  'l40s': Device('NVIDIA L40S', 362e12, 183e12, 48e9, 0.864e12, _PCIE4, 8, 1.5625e9, _PCIE4),
  'rtx-3090': Device('NVIDIA GeForce RTX 3090', 71e12, 35.6e12, 24e9, 0.936e12, _PCIE4, 8, 1.5625e9, _PCIE4),
  'rtx-4090': Device('NVIDIA GeForce RTX 4090', 165.2e12, 82.6e12, 24e9, 1.008e12, _PCIE4, 8, 1.5625e9, _PCIE4),
  'mi300x': Device('AMD Instinct MI300X', 1307.4e12, 163.4e12, 192e9, 5.3e12, 448e9, 8, 50e9, _PCIE5),
  'tpu-v4': Device('TPU v4', 275e12, 275e12, 32 * _GIB, 1.228e12, 300e9, 4096, 6.25e9),
  'tpu-v5e': Device('TPU v5e', 197e12, 197e12, 16 * _GIB, 0.819e12, 200e9, 256, 6.25e9),
  'tpu-v5p': Device('TPU v5p', 459e12, 459e12, 95 * _GIB, 2.765e12, 600e9, 8960, 6.25e9),
  'tpu-v6e': Device('TPU v6e', 918e12, 918e12, 32 * _GIB, 1.64e12, 400e9, 256, 6.25e9),
}

# How JAX calls a device, where that is not the last part of its name here.
_KINDS = {'rtx-3090': 'RTX 3090', 'rtx-4090': 'RTX 4090', 'tpu-v4': 'TPU v4', 'tpu-v5e': 'TPU v5 ?(lite|e)',
          'tpu-v5p': 'TPU v5p?$', 'tpu-v6e': 'TPU v6 ?(lite|e)'}  # fmt: skip


def of_kind(kind: str) -> Device | None:
  """The device that JAX calls so, such as 'NVIDIA H200'; None if it is not in the table."""
  for name, found in DEVICES.items():
    if re.search(rf'\b{_KINDS.get(name, name)}(\b|$)', kind, re.IGNORECASE):
      return found
  return None


def device(name: str) -> Device:
  """The device of a name as people write it, 'RTX 4090' or 'v5e', or of a file FILE.json.

  Raises ConfigError for one which has no data sheet.
  """
  if name.endswith('.json'):
    return _read(pathlib.Path(name))
  by_name = {_bare(known): found for known, found in DEVICES.items()}
  if found := by_name.get(_bare(name)) or of_kind(name):
    return found
  hint = nearest(_bare(name), [_bare(known) for known in DEVICES])
  hint = f'{hint} ' if hint.startswith('did') else ''
  raise ConfigError(
    f'--device: no data sheet of {name!r}; {hint}there are {", ".join(DEVICES)} (FILE.json is a sheet of your own)'
  )


def _bare(name: str) -> str:
  """A name without case, signs and the words that people leave out: '4090', 'v5e', 'h100'."""
  return re.sub(r'nvidia|geforce|rtx|tpu|[^a-z0-9]', '', name.lower())


def _read(path: pathlib.Path) -> Device:
  where = f'--device: {path}'
  try:
    fields = json.loads(path.read_text())
  except (OSError, ValueError) as e:
    raise ConfigError(f'{where}: cannot be read: {getattr(e, "strerror", None) or first_line(e)}') from e
  if not isinstance(fields, dict):
    raise ConfigError(f'{where}: expected an object of {", ".join(f.name for f in dataclasses.fields(Device))}')
  check_arguments(Device, fields, where)
  return Device(**fields)
