"""What a researcher would write in PyTorch: a small GPT and an LSTM language model, for comparison."""

import math

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
  """A pre-norm block with PyTorch's own scaled dot-product attention."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.norms = nn.ModuleList(nn.LayerNorm(width, bias=False) for _ in range(2))
    self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
    self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

  def forward(self, x: Tensor) -> Tensor:
    shape = (*x.shape[:2], self.heads, x.shape[2] // self.heads)
    q, k, v = (y.view(shape).transpose(1, 2) for y in self.qkv(self.norms[0](x)).chunk(3, dim=2))
    x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(x.shape))
    return x + self.down(F.gelu(self.up(self.norms[1](x)), approximate='tanh'))


class GPT(nn.Module):
  """nanoGPT's network without biases; the output layer is the embedding."""

  def __init__(self, vocab_size: int, length: int, layers: int, heads: int, width: int):
    super().__init__()
    self.token, self.position = nn.Embedding(vocab_size, width), nn.Embedding(length, width)
    self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
    self.norm = nn.LayerNorm(width, bias=False)
    for name, weight in self.named_parameters():
      if weight.ndim > 1:
        residual = name.endswith(('out.weight', 'down.weight'))
        nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if residual else 0.02)

  def forward(self, tokens: Tensor) -> Tensor:
    x = self.token(tokens) + self.position.weight[: tokens.shape[1]]
    for block in self.blocks:
      x = block(x)
    return self.norm(x) @ self.token.weight.T


class LSTM(nn.Module):
  """An embedding, `torch.nn.LSTM`, and an output layer."""

  def __init__(self, vocab_size: int, embedding: int, width: int, layers: int):
    super().__init__()
    self.token = nn.Embedding(vocab_size, embedding)
    self.lstm = nn.LSTM(embedding, width, layers, batch_first=True)
    self.out = nn.Linear(width, vocab_size)

  def forward(self, tokens: Tensor) -> Tensor:
    return self.out(self.lstm(self.token(tokens))[0])
