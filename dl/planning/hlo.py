"""What one device does in a compiled program, read from its HLO text: products, communication, bytes."""

import dataclasses
import functools
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

COLLECTIVES = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all', 'collective-permute')

_BITS = {'pred': 8, 's4': 4, 'u4': 4, 's8': 8, 'u8': 8, 's16': 16, 'u16': 16, 'f16': 16, 'bf16': 16}
_BITS |= {'s32': 32, 'u32': 32, 'f32': 32, 's64': 64, 'u64': 64, 'f64': 64, 'c64': 64, 'c128': 128}
_SHAPE = re.compile(r'\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]')
_OPERATION = re.compile(r'^\s*(ROOT )?%?([\w.\-]+) = (.*)$')
_CALL = re.compile(r'^([\w\-]+)\((.*)$')


@dataclasses.dataclass(frozen=True)
class Operation:
  """One line of a computation.

  Attributes:
    name: its own.
    kind: opcode, 'dot'.
    shapes: (dtype, dimensions) of each array that it gives.
    operands: names of what it takes.
    attributes: the text behind its operands.
    argument: the text between its parentheses: a constant's value.
  """

  name: str
  kind: str
  shapes: tuple[tuple[str, tuple[int, ...]], ...]
  operands: tuple[str, ...]
  attributes: str
  argument: str

  @property
  def bytes(self) -> float:
    """Bytes of what it gives."""
    return sum(_BITS.get(dtype, 0) / 8 * math.prod(dims) for dtype, dims in self.shapes)


@dataclasses.dataclass(frozen=True)
class Collective:
  """A communication, as often as the program does it.

  Attributes:
    kind: one of `COLLECTIVES`.
    times: how often a step runs it.
    size: bytes that a device has after (all-gather) or before it.
    groups: numbers of the devices that take part with one another.
  """

  kind: str
  times: int
  size: float
  groups: tuple[tuple[int, ...], ...]

  @property
  def group(self) -> int:
    """Devices that take part with one another."""
    return max(map(len, self.groups))

  def crosses(self, node: int) -> bool:
    """Whether a group has devices of several nodes, which `node` consecutive devices share each."""
    return any(device // node != group[0] // node for group in self.groups for device in group)

  def neighbors(self, node: int) -> int:
    """Devices of a group that share a node, where they are fewest."""
    return min(min(np.unique([d // node for d in group], return_counts=True)[1]) for group in self.groups)

  @property
  def moved(self) -> float:
    """Bytes that a device sends each time, by the ring algorithms."""
    share = (self.group - 1) / self.group
    return {'all-reduce': 2 * share, 'collective-permute': 1.0}.get(self.kind, share) * self.size


@dataclasses.dataclass(frozen=True)
class Product:
  """A matrix product or convolution, or a reduction, as often as the program does it.

  Attributes:
    times: how often a step runs it.
    flops: of one time; a multiplication and an addition are two, a reduction none.
    bytes: read and written by one time.
    precision: 'bfloat16' where no operand has more than 16 bits, else 'float32': which rate it runs at.
  """

  times: int
  flops: float
  bytes: float
  precision: str


@dataclasses.dataclass(frozen=True)
class Program:
  """What one device does in a step.

  Attributes:
    collectives: its communication.
    products: its work.
    unread: loops with either in them of which it cannot be read how often they run; they count once.
    ungrouped: communication of which it cannot be read who takes part; it counts as among all devices.
  """

  collectives: tuple[Collective, ...]
  products: tuple[Product, ...]
  unread: tuple[str, ...] = ()
  ungrouped: tuple[str, ...] = ()

  @property
  def flops(self) -> float:
    """Of all products."""
    return sum(p.times * p.flops for p in self.products)

  def share(self, precision: str) -> float:
    """Which part of the operations runs at the rate of a precision."""
    return sum(p.times * p.flops for p in self.products if p.precision == precision) / max(self.flops, 1.0)


def read(text: str) -> Program:
  """The work of a module in HLO text, as it is before a backend rewrites products into calls of its own.

  Loops count as often as they run where their condition compares a counter with a constant (`jax.lax.scan`), and once
  elsewhere, which `unread` tells; `ungrouped` tells of groups in a notation that is not known. An all-reduce of which
  each device only uses a slice is the reduce-scatter that GPUs and TPUs make of it.
  """
  computations, entry = _parse(text)
  collectives, products, unread, ungrouped = [], [], [], []
  devices = int(stated[1]) if (stated := re.match(r'HloModule .*\bnum_partitions=(\d+)', text)) else 1
  for times, operation, inside in _walk(computations, entry, 1):
    kind = operation.kind.removesuffix('-start')
    operands = [inside[o] for o in operation.operands if o in inside]
    if kind in COLLECTIVES:
      size, groups = operation.bytes, _groups(operation.attributes, devices)
      if groups is None:
        ungrouped.append(operation.name)
        groups = (tuple(range(devices)),)
      if kind == 'all-reduce' and _is_sliced(operation, inside):
        kind = 'reduce-scatter'
      if kind == 'reduce-scatter' and operation.kind == 'reduce-scatter':
        size *= max(map(len, groups))
      if any(len(group) > 1 for group in groups):
        collectives.append(Collective(kind, times, size, groups))
    elif kind in ('dot', 'convolution', 'reduce'):
      flops = {'dot': _dot, 'convolution': _convolution, 'reduce': lambda *_: 0.0}[kind](operation, operands)
      size = operation.bytes + sum(o.bytes for o in operands)
      products.append(Product(times, flops, size, _precision(operands)))
    elif kind == 'while' and _trips(operation.attributes, computations) is None:
      bodies = [o.kind for b in _named(operation.attributes, 'body') for _, o, _ in _walk(computations, b, 1)]
      unread += [operation.name] if {'dot', 'convolution', *COLLECTIVES} & set(bodies) else []
  return Program(tuple(collectives), tuple(products), tuple(unread), tuple(ungrouped))


def _parse(text: str) -> tuple[dict[str, dict[str, Operation]], str]:
  """(computation -> name -> operation, the entry's name)."""
  computations, entry, inside = {}, '', None
  for line in text.splitlines():
    if line.rstrip().endswith('{') and not line.startswith(' ') and not line.startswith('HloModule'):
      words = line.removeprefix('ENTRY ').split()
      inside = computations.setdefault(words[0].lstrip('%'), {})
      entry = words[0].lstrip('%') if line.startswith('ENTRY') else entry
    elif line.startswith('}'):
      inside = None
    elif inside is not None and (match := _OPERATION.match(line)):
      type_text, rest = _split_type(match[3])
      call = _CALL.match(rest)
      if call:
        argument, attributes = _split_parentheses(call[2])
        names = tuple(re.findall(r'%([\w.\-]+)', argument)) or tuple(a.strip() for a in argument.split(','))
        shapes = tuple((d, tuple(map(int, s.split(','))) if s else ()) for d, s in _SHAPE.findall(type_text))
        inside[match[2]] = Operation(match[2], call[1], shapes, names, attributes, argument)
  return computations, entry


def _split_type(text: str) -> tuple[str, str]:
  """(the type, the rest) of what follows the equals sign."""
  if not text.startswith('('):
    first, _, rest = text.partition(' ')
    return first, rest
  inside, rest = _split_parentheses(text[1:])
  return inside, rest.lstrip()


def _split_parentheses(text: str) -> tuple[str, str]:
  """(what is before the closing parenthesis, what is behind it)."""
  depth = 1
  for i, c in enumerate(text):
    depth += (c == '(') - (c == ')')
    if depth == 0:
      return text[:i], text[i + 1 :]
  return text, ''


def _walk(
  computations: Mapping[str, Mapping[str, Operation]], name: str, times: int
) -> Iterator[tuple[int, Operation, Mapping[str, Operation]]]:
  """(how often, operation, its computation) of everything that a computation runs."""
  inside = computations.get(name, {})
  for operation in inside.values():
    yield times, operation, inside
    called = functools.partial(_named, operation.attributes)
    if operation.kind == 'while':
      count = _trips(operation.attributes, computations)
      for body in called('body'):
        yield from _walk(computations, body, times * (1 if count is None else count))
    elif operation.kind in ('call', 'fusion', 'async-start'):
      for inner in [*called('to_apply'), *called('calls')]:
        yield from _walk(computations, inner, times)
    elif operation.kind == 'conditional':
      branches = re.search(r'branch_computations=\{([^}]*)\}', operation.attributes)
      inner = re.findall(r'%?([\w.\-]+)', branches[1]) if branches else []
      inner += [*called('true_computation'), *called('false_computation')]
      walks = [list(_walk(computations, branch, times)) for branch in inner]
      yield from max(walks, key=len, default=[])


def _named(attributes: str, key: str) -> list[str]:
  return re.findall(rf'\b{key}=%?([\w.\-]+)', attributes)


def _trips(attributes: str, computations: Mapping[str, Mapping[str, Operation]]) -> int | None:
  """How often a loop runs; None where that cannot be read."""
  if known := re.search(r'known_trip_count"?:\{"?n"?:"?(\d+)', attributes):
    return int(known[1])
  for condition in _named(attributes, 'condition'):
    inside = computations.get(condition, {})
    constants = [int(o.argument) for o in inside.values() if o.kind == 'constant' and o.argument.isdecimal()]
    if len(constants) == 1 and any('direction=LT' in o.attributes for o in inside.values()):
      return constants[0]
  return None


def _groups(attributes: str, devices: int) -> tuple[tuple[int, ...], ...] | None:
  """Numbers of the devices which communicate with one another, in any notation of XLA; None if it is another one."""
  if match := re.search(r'\bsource_target_pairs=\{((?:\{\d+,\d+\},?)*)\}', attributes):
    return tuple(pair for pair in _lists(match[1]) if pair[0] != pair[1])
  groups = re.search(r'\breplica_groups=(.*)', attributes)
  if not groups:
    return None
  if groups[1].startswith('{}'):
    return (tuple(range(devices)),)
  if match := re.match(r'\{((?:\{[\d,]+\},?)+)\}', groups[1]):
    return _lists(match[1])
  if match := re.match(r'\[(\d+),(\d+)\]<=(\[[\d,]+\](?:T\([\d,]+\))?)', groups[1]):
    ids = _numbered(match[3])
    return _rows(ids.reshape(int(match[1]), int(match[2]))) if ids.size == int(match[1]) * int(match[2]) else None
  if match := re.match(r'@?mesh[\[<]([^\]>]*)[\]>](?:, device_ids=\(([^{]*)\))?,? \{([^}]*)\}', groups[1]):
    return _of_mesh(*match.groups())
  return None


def _of_mesh(mesh: str, order: str | None, along: str) -> tuple[tuple[int, ...], ...] | None:
  """Groups along axes of a mesh.

  Args:
    mesh: "'a'=2,'b'=8".
    order: its devices, '[8,2]T(1,0)' or '0,2,1,3'; None for 0, 1, 2...
    along: "'a'", or "'b':(2)4" for the part of size 4 of an axis which has a part of size 2 before it.
  """
  sizes = {name: int(size) for name, size in re.findall(r"'?([^'=,]+)'?=(\d+)", mesh)}
  parts: dict[str, list[tuple[int, int]]] = {name: [] for name in sizes}
  for text in filter(None, along.split(',')):
    match = re.fullmatch(r"'?([^':]+)'?(?::\((\d+)\)(\d+))?'?", text.strip())
    if not match or match[1] not in sizes:
      return None
    before, size = (int(match[2]), int(match[3])) if match[2] else (1, sizes[match[1]])
    parts[match[1]].append((before, before * size))
  dims, chosen = [], []
  for name, total in sizes.items():
    cuts = sorted({1, total, *(cut for part in parts[name] for cut in part)})
    for low, high in itertools.pairwise(cuts):
      dims.append(high // low)
      chosen.append(any(start <= low and high <= end for start, end in parts[name]))
  count = math.prod(sizes.values())
  ids = np.arange(count) if order is None else _numbered(order)
  if ids.size != count or math.prod(dims) != count:
    return None
  axes = sorted(range(len(dims)), key=lambda axis: chosen[axis])  # those of a group last
  return _rows(ids.reshape(dims).transpose(axes).reshape(-1, math.prod(d for d, c in zip(dims, chosen) if c)))


def _numbered(text: str) -> np.ndarray:
  """Numbers of devices in the order of a text: '[8,2]T(1,0)' is 8 rows of 2, read by columns; or '0,2,1,3'."""
  match = re.fullmatch(r'\[([\d,]+)\](?:T\(([\d,]+)\))?', text)
  if not match:
    return np.asarray([int(number) for number in re.findall(r'\d+', text)])
  dims = _integers(match[1])
  ids = np.arange(math.prod(dims)).reshape(dims)
  return (ids.transpose(_integers(match[2])) if match[2] else ids).reshape(-1)


def _lists(text: str) -> tuple[tuple[int, ...], ...]:
  return tuple(_integers(group) for group in re.findall(r'\{([\d,]+)\}', text))


def _rows(ids: np.ndarray) -> tuple[tuple[int, ...], ...]:
  return tuple(map(tuple, ids.tolist()))


def _integers(text: str) -> tuple[int, ...]:
  return tuple(map(int, text.split(',')))


def _is_sliced(operation: Operation, inside: Mapping[str, Operation]) -> bool:
  users = [o for o in inside.values() if operation.name in o.operands]
  return bool(users) and all(o.kind == 'dynamic-slice' for o in users)


def _precision(operands: Sequence[Operation]) -> str:
  bits = max((_BITS.get(dtype, 8) for operand in operands for dtype, _ in operand.shapes), default=32)
  return 'bfloat16' if bits <= 16 else 'float32'


def _dot(operation: Operation, operands: Sequence[Operation]) -> float:
  contracted = re.search(r'lhs_contracting_dims=\{([\d,]*)\}', operation.attributes)
  dims = operands[0].shapes[0][1]
  summed = math.prod(dims[int(i)] for i in contracted[1].split(',') if i) if contracted else 1
  return 2.0 * math.prod(operation.shapes[0][1]) * summed


def _convolution(operation: Operation, operands: Sequence[Operation]) -> float:
  """Of the dense definition: also where padding makes a factor zero."""
  labels = re.search(r'dim_labels=\w+_(\w+)->', operation.attributes)
  kernel = operands[1].shapes[0][1]
  taps = math.prod(size for size, label in zip(kernel, labels[1], strict=True) if label != 'o')
  dilated = re.search(r'lhs_dilate=([\dx]+)', operation.attributes)
  spread = math.prod(map(int, dilated[1].split('x'))) if dilated else 1
  return 2.0 * math.prod(operation.shapes[0][1]) / spread * taps
