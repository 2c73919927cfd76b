"""What one device does in a compiled program, read from its HLO text: products, communication, bytes."""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping, Sequence

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
    group: devices that take part with one another.
  """

  kind: str
  times: int
  size: float
  group: int

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
  """

  times: int
  flops: float
  bytes: float


@dataclasses.dataclass(frozen=True)
class Program:
  """What one device does in a step.

  Attributes:
    collectives: its communication.
    products: its work.
    unread: loops with either in them of which it cannot be read how often they run; they count once.
  """

  collectives: tuple[Collective, ...]
  products: tuple[Product, ...]
  unread: tuple[str, ...] = ()

  @property
  def flops(self) -> float:
    """Of all products."""
    return sum(p.times * p.flops for p in self.products)


def read(text: str) -> Program:
  """The work of a module in HLO text, as it is before a backend rewrites products into calls of its own.

  Loops count as often as they run where their condition compares a counter with a constant (`jax.lax.scan`), and once
  elsewhere, which `unread` tells. An all-reduce of which each device only uses a slice is the reduce-scatter that GPUs
  and TPUs make of it.
  """
  computations, entry = _parse(text)
  collectives, products, unread = [], [], []
  devices = int(found[1]) if (found := re.match(r'HloModule .*\bnum_partitions=(\d+)', text)) else 1
  for times, operation, inside in _walk(computations, entry, 1):
    kind = operation.kind.removesuffix('-start')
    operands = [inside[o] for o in operation.operands if o in inside]
    if kind in COLLECTIVES:
      size, group = operation.bytes, _group(kind, operation.attributes, devices)
      if kind == 'all-reduce' and _is_sliced(operation, inside):
        kind = 'reduce-scatter'
      if kind == 'reduce-scatter' and operation.kind == 'reduce-scatter':
        size *= group
      if group > 1:
        collectives.append(Collective(kind, times, size, group))
    elif kind in ('dot', 'convolution', 'reduce'):
      flops = {'dot': _dot, 'convolution': _convolution, 'reduce': lambda *_: 0.0}[kind](operation, operands)
      products.append(Product(times, flops, operation.bytes + sum(o.bytes for o in operands)))
    elif kind == 'while' and _trips(operation.attributes, computations) is None:
      bodies = [o.kind for b in _named(operation.attributes, 'body') for _, o, _ in _walk(computations, b, 1)]
      unread += [operation.name] if {'dot', 'convolution', *COLLECTIVES} & set(bodies) else []
  return Program(tuple(collectives), tuple(products), tuple(unread))


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
      found = [list(_walk(computations, branch, times)) for branch in inner]
      yield from max(found, key=len, default=[])


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


def _group(kind: str, attributes: str, devices: int) -> int:
  """Devices which communicate with one another: all, if no groups are named."""
  if match := re.search(r'replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}', attributes):
    sizes = dict(re.findall(r"'?([\w]+)'?=(\d+)", match[1]))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'?([\w]+)'?", match[2]) if axis in sizes)
  if match := re.search(r'replica_groups=\[(\d+),(\d+)\]', attributes):
    return int(match[2])
  if match := re.search(r'replica_groups=\{\{([\d,]*)\}', attributes):
    return len(match[1].split(','))
  return 2 if kind == 'collective-permute' else devices  # a permutation names pairs


def _is_sliced(operation: Operation, inside: Mapping[str, Operation]) -> bool:
  users = [o for o in inside.values() if operation.name in o.operands]
  return bool(users) and all(o.kind == 'dynamic-slice' for o in users)


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
