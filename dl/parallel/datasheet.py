"""What makers state of their accelerators, for plans. Rates are dense, in FLOP/s; sizes in bytes; links in bytes/s."""

import dataclasses

from dl.errors import ConfigError, nearest


@dataclasses.dataclass(frozen=True)
class Device:
  """One accelerator.

  Attributes:
    name: as its maker calls it.
    bfloat16: products in bfloat16, summed in float32.
    float32: products of float32 arrays at JAX's default precision: TF32 on these GPUs, one bfloat16 pass on TPUs.
    memory: its own.
    bandwidth: of that memory.
    link: to the devices of its node (NVLink) or torus (ICI), in one direction, all links together.
    node: devices which such links join.
    network: beyond the node, a device's share in one direction (400 Gb/s a GPU; 200 for the A100).
    host: to the memory of its host, in one direction (PCIe 5.0 x16; 4.0 for the A100); None where none is published.
  """

  name: str
  bfloat16: float
  float32: float
  memory: float
  bandwidth: float
  link: float
  node: int
  network: float
  host: float | None = None

  def rate(self, precision: str) -> float:
    """FLOP/s at a config's precision."""
    return self.bfloat16 if precision == 'bfloat16' else self.float32


DEVICES = {
  'a100': Device('NVIDIA A100 80GB SXM', 312e12, 156e12, 80e9, 2.04e12, 300e9, 8, 25e9, 32e9),
  'h100': Device('NVIDIA H100 SXM', 989e12, 494e12, 80e9, 3.35e12, 450e9, 8, 50e9, 64e9),
  'h200': Device('NVIDIA H200 SXM', 989e12, 494e12, 141e9, 4.8e12, 450e9, 8, 50e9, 64e9),
  'b200': Device('NVIDIA B200 SXM', 2250e12, 1125e12, 180e9, 7.7e12, 900e9, 8, 50e9),
  'tpu-v4': Device('TPU v4', 275e12, 275e12, 32 * 2**30, 1.228e12, 300e9, 4096, 6.25e9),
  'tpu-v5e': Device('TPU v5e', 197e12, 197e12, 16 * 2**30, 0.819e12, 200e9, 256, 6.25e9),
  'tpu-v5p': Device('TPU v5p', 459e12, 459e12, 95 * 2**30, 2.765e12, 600e9, 8960, 6.25e9),
  'tpu-v6e': Device('TPU v6e', 918e12, 918e12, 32 * 2**30, 1.64e12, 400e9, 256, 6.25e9),
}


_KINDS = {
  'a100': 'A100', 'h100': 'H100', 'h200': 'H200', 'b200': 'B200',
  'tpu-v4': 'TPU v4', 'tpu-v5e': 'TPU v5 lite', 'tpu-v5p': 'TPU v5p', 'tpu-v6e': 'TPU v6 lite',
}  # fmt: skip


def of_kind(kind: str) -> Device | None:
  """The device that JAX calls so, such as 'NVIDIA H200'; None if it is not in the table."""
  return next((DEVICES[name] for name, part in _KINDS.items() if part.lower() in kind.lower()), None)


def device(name: str) -> Device:
  """The device of a name; raises ConfigError for one which is not in the table."""
  if name not in DEVICES:
    raise ConfigError(f'--device: no data sheet of {name!r}; {nearest(name, DEVICES)}')
  return DEVICES[name]
