"""What the parts of a transformer block are told besides the features."""

import flax
from jaxtyping import Array, Bool, Float, Int


@flax.struct.dataclass
class Context:
  """One reading of a sequence, the same for all blocks.

  Attributes:
    train: whether the network learns: things are dropped out.
    decode: whether the tokens continue those which the 'cache' collection remembers.
    positions: of the tokens, one after another; None for 0, 1, ...
    mask: which of the tokens are real; None for all. Keys that are not real are seen by none.
    memory: what cross attention reads; None in later calls of decoding, which remember it.
    memory_mask: which of it is real; None for all.
  """

  train: bool = flax.struct.field(pytree_node=False, default=False)
  decode: bool = flax.struct.field(pytree_node=False, default=False)
  positions: Int[Array, ' n'] | None = None
  mask: Bool[Array, 'b n'] | None = None
  memory: Float[Array, 'b m width'] | None = None
  memory_mask: Bool[Array, 'b m'] | None = None
