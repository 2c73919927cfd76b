"""Memory of a step is kept for the next: the system clears no page twice."""

import os
import subprocess
import sys

import pytest

from dl.commands import allocator

FAULTS = """
import resource, sys
import jax, jax.numpy as jnp
from dl.commands import allocator
print(allocator.keep_memory() if sys.argv[1] == 'keep' else None)
def loss(w, x):
  for _ in range(20):
    x = jnp.tanh(x @ w)
  return x.sum()
step = jax.jit(jax.grad(loss))
w, x = jnp.ones((256, 256)), jnp.ones((2048, 256))
for _ in range(3):
  step(w, x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
  step(w, x).block_until_ready()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what, **variables):
  environment = {k: v for k, v in os.environ.items() if k not in allocator.VARIABLES} | variables
  command = [sys.executable, '-c', FAULTS, what]
  done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)
  kept, count = done.stdout.split()
  return kept, int(count)


@pytest.mark.skipif(sys.platform != 'linux' or os.confstr('CS_GNU_LIBC_VERSION') is None, reason='of GNU C libraries')
def test_a_step_asks_the_system_for_its_memory_once():
  kept, few = faults('keep')
  assert kept == 'True'
  _, many = faults('give back')
  assert few < many / 4, (few, many)
  assert faults('keep', MALLOC_TRIM_THRESHOLD_='1000000')[0] == 'False'  # the user's own setting comes first
