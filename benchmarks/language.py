"""Language models, beside PyTorch and Hugging Face transformers: python -m benchmarks.language

Side by side in one process, in turns of few steps, so that a noisy machine disturbs all alike:
  * training: tokens a second of dl's step, as its loop runs it, and of the same network in PyTorch with fused AdamW
    and its scaled dot-product attention (`benchmarks/plain_language.py`), float32;
  * --generate: tokens a second at batch 1, greedy, beside `generate` of transformers on the same random weights.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from benchmarks.turns import Turn, against, references, repeated, take_turns
from dl import config as configs
from dl.commands import allocator
from dl.contract.weights import Tensors
from dl.decoding.choice import Choice
from dl.decoding.sampling import generate
from dl.models.gpt import GPT
from dl.parallel import meshes
from dl.training import start
from dl.training.prepare import prepare

TURNS = flags.DEFINE_integer('turns', 7, 'Measured turns of each side.')
ONLY = flags.DEFINE_list('only', [], 'Cases to measure; all if not given.')
GENERATE = flags.DEFINE_boolean('generate', False, 'Measure generation, not training.')

TRAINING = {
  'gpt 4x128, 12 x 64 characters': dict(
    model=dict(name='gpt.GPT', vocab_size=65, length=64, layers=4, heads=4, width=128, use_bias=False),
    batch=12, steps=20,
  ),
  'gpt 6x384, 4 x 256 characters': dict(
    model=dict(name='gpt.GPT', vocab_size=65, length=256, layers=6, heads=6, width=384, use_bias=False),
    batch=4, steps=2,
  ),
  'lstm 1x256, 32 x 64 characters': dict(
    model=dict(name='rnn.RecurrentLanguageModel', vocab_size=65, embedding=128, width=256, layers=1),
    batch=32, length=64, steps=20,
  ),
  'lstm 2x650, 20 x 35 words of 10,000': dict(
    model=dict(name='rnn.RecurrentLanguageModel', vocab_size=10000, embedding=650, width=650, layers=2),
    batch=20, length=35, steps=2,
  ),
}  # fmt: skip
"""Network -> its config and batch, and what a machine of few cores can do of it in a turn."""

GENERATION = {
  'gpt 4x128, 256 characters': dict(vocab_size=65, length=512, layers=4, heads=4, width=128, new=256),
  'GPT-2 small, 32 tokens': dict(vocab_size=50257, length=1024, layers=12, heads=12, width=768, new=32),
}
"""Network -> its sizes, and how many tokens a turn adds."""


def ours(case: dict[str, Any], length: int) -> tuple[Callable[[], Any], np.ndarray]:
  """(one training step of dl, as its loop runs it; its tokens)."""
  vocab_size = case['model']['vocab_size']
  data = dict(name='benchmarks.synthetic.RandomTokens', count=case['batch'], length=length, vocab_size=vocab_size)
  adam = dict(name='adamw', learning_rate=1e-3, b2=0.99, weight_decay=0.1, mask='(kernel|embedding)$')
  run = prepare(
    configs.resolve(
      dict(
        task=dict(name='lm.LanguageModel'),
        model=case['model'],
        data=data | dict(batch_size=case['batch']),
        optim=dict(clip=dict(name='clip_by_global_norm', max_norm=1.0), adam=adam),
        train_for=100,
      )
    )
  )
  functions = run.functions
  batch = meshes.place(run.parts.pipeline[0], meshes.batch_sharding(run.mesh))
  carry = [functions.init({}), functions.new_sums()]

  def step():
    *carry[:], done = functions.train(*carry, batch)
    return done

  return step, np.array(batch['tokens'])


def theirs(case: dict[str, Any], tokens: np.ndarray) -> Callable[[], None]:
  """One training step of an ordinary PyTorch script."""
  import torch

  from benchmarks import plain_language

  sizes = {k: v for k, v in case['model'].items() if k not in ('name', 'use_bias')}
  network = (plain_language.GPT if case['model']['name'] == 'gpt.GPT' else plain_language.LSTM)(**sizes)
  matrices = [p for p in network.parameters() if p.ndim > 1]
  rest = [p for p in network.parameters() if p.ndim < 2]
  groups = [dict(params=matrices, weight_decay=0.1), dict(params=rest, weight_decay=0.0)]
  optim = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
  tokens = torch.from_numpy(tokens).long()

  def step():
    loss = torch.nn.functional.cross_entropy(network(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    optim.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optim.step()

  return step


def training() -> None:
  """Training steps."""
  for name, case in TRAINING.items():
    if ONLY.value and not any(word in name for word in ONLY.value):
      continue
    length = case.get('length') or case['model']['length']
    step, tokens = ours(case, length)
    sides = {'dl': repeated(step, case['steps']), 'torch': repeated(theirs(case, tokens), case['steps'])}
    print(name)
    for side, seconds, ratio in against(take_turns(sides, TURNS.value), 'dl'):
      rate = case['batch'] * length * case['steps'] / seconds
      print(f'  {side:14} {rate:10.0f} tokens/s   dl is {ratio:.2f}x')


def generation() -> None:
  """Tokens which follow one."""
  for name, sizes in GENERATION.items():
    if ONLY.value and not any(word in name for word in ONLY.value):
      continue
    sizes = dict(sizes)
    new = sizes.pop('new')
    model = GPT(**sizes)
    network, tensors = huggingface(sizes)
    like = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 2), jnp.int32))
    variables = start.convert(tensors, like, model=model, layout='huggingface')
    prompt = np.zeros((1, 1), np.int32)
    greedy = functools.partial(generate, model, variables, prompt, jax.random.key(0), Choice(0.0), length=new)
    same = np.array(greedy())[0], network(prompt, new)[0, 1:]
    if not np.array_equal(*same):
      raise RuntimeError(f'{name}: the two write different texts: {same}')
    sides = {'dl': repeated(greedy, 1), 'transformers': turn_of(network, prompt, new)}
    print(name)
    for side, seconds, ratio in against(take_turns(sides, TURNS.value), 'dl'):
      print(f'  {side:14} {new / seconds:10.1f} tokens/s   dl is {ratio:.2f}x')


def turn_of(network: Callable[[np.ndarray, int], Any], prompt: np.ndarray, new: int) -> Turn:
  """A turn of transformers."""

  def turn():
    network(prompt, new)

  return turn


def huggingface(sizes: dict[str, int]) -> tuple[Callable[[np.ndarray, int], np.ndarray], Tensors]:
  """(greedy generation by transformers' GPT-2 with random weights; the weights)."""
  import torch

  transformers = references().transformers()
  torch.manual_seed(0)
  named = dict(vocab_size='vocab_size', length='n_positions', layers='n_layer', heads='n_head', width='n_embd')
  config = transformers.GPT2Config(**{named[k]: v for k, v in sizes.items()}, bos_token_id=0, eos_token_id=None)
  network = transformers.GPT2LMHeadModel(config).eval()
  options = dict(do_sample=False, pad_token_id=0)

  def run(prompt: np.ndarray, new: int) -> np.ndarray:
    tokens = torch.from_numpy(prompt).long()
    more = dict(max_new_tokens=new, min_new_tokens=new, attention_mask=torch.ones_like(tokens))
    with torch.no_grad():
      return network.generate(tokens, **options, **more).numpy()

  return run, {k: v.numpy() for k, v in network.state_dict().items()}


def main(argv: Sequence[str]) -> None:
  """Measures what the flags say."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  allocator.keep_memory()  # as each command does; PyTorch has the same memory
  generation() if GENERATE.value else training()


if __name__ == '__main__':
  app.run(main)
