"""GPT at two sizes, on random tokens: to plan with (`dl.plan`) and to measure throughput with, not to learn from.

python -m dl.plan --config=experiments/scale/gpt.py:8b --devices=256 --device=h100
python -m dl.train --config=experiments/scale/gpt.py:124m --workdir=runs/gpt_124m

'124m' is GPT-2's shape. '8b' has 7.5e9 parameters: 32 layers of width 4,096, a context of 8,192 and 128,256 tokens;
its weights, gradients and moments are split over all devices, its layers are scanned, their activations computed again.
Not yet run.
Cite: radford2019language
"""

from dl.config import config

SIZES = {
  '124m': dict(vocab_size=50257, length=1024, remat='none'),
  '8b': dict(
    vocab_size=128256, length=8192, layers=32, heads=32, width=4096, rope=True, tie_embeddings=False, use_bias=False,
    remat='full',
  ),
}  # fmt: skip


def get_config(size='124m'):
  """The experiment."""
  if size not in SIZES:
    raise ValueError(f'expected {" or ".join(SIZES)}, got {size!r}')
  model = SIZES[size]
  data = dict(name='synthetic.Tokens', length=model['length'], vocab_size=model['vocab_size'])
  return config(
    seed=0,
    task=dict(name='lm.LanguageModel'),
    model=dict(name='gpt.GPT', scan=True) | model,
    data=data | dict(batch_size=256 if size == '8b' else 512),
    optim=dict(
      clip=dict(name='clip_by_global_norm', max_norm=1.0),
      adam=dict(
        name='adamw',
        b2=0.95,
        weight_decay=0.1,
        mask='kernel$',
        learning_rate=dict(
          name='warmup_cosine_decay_schedule', peak_value=6e-4 if size == '124m' else 3e-4, warmup='2%'
        ),
      ),
    ),
    train_for='1000 steps',
    precision='bfloat16',
    sharding='fsdp' if size == '8b' else 'replicated',
  )
