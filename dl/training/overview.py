"""What a run says of itself: before its first step, what is about to happen; after its last, what came and where."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from dl.contract.task import Task
from dl.nn import lora
from dl.show.words import amount, number, numbers, tenths
from dl.training import adapters
from dl.training.assemble import Parts
from dl.training.prepare import Prepared


def before(run: Prepared, directory: pathlib.Path) -> str:
  """A block of lines: what learns, from what data, for how long, on what, and where that is written.

  Shapes alone are looked at, and facts that are known already.
  """
  experiment, parts = run.experiment, run.parts
  parameters = sum(x.size for x in jax.tree.leaves(parts.state.params))
  models = {p: model for p, model in parts.task.players.items() if lora.is_adapted(model)}
  trained = sum(x.size for p, m in models.items() for x in adapters.trained(m, parts.state.params[p]).values())
  model = experiment.model if 'name' in experiment.model else {'name': ', '.join(experiment.model)}
  rows = {
    'task': f'{experiment.task["name"]} with {model["name"]}, {parameters:,} parameters'
    + (f', {trained:,} of them of adapters and what is trained beside them' if models else '')
    + (f', {experiment.seeds} seeds at once' if experiment.seeds else ''),
    'data': _data(run),
    'training': length(run.parts),
    'evaluation': _evaluations(run),
    'devices': _devices(run) + f', {experiment.precision}',
    'writes to': f'{directory}, a checkpoint {_when(run, "checkpoint")}',
  }
  width = max(map(len, rows))
  return '\n'.join(f'{name:<{width}}  {text}' for name, text in rows.items() if text)


def compiling(run: Prepared) -> str:
  """What takes its time before the first step."""
  evaluations = f' and the evaluation of {", ".join(run.evals)}' if run.evals else ''
  return f'compiling the training step{evaluations} ...'


def after(
  metrics: Mapping[str, Mapping[str, Any]], best: Mapping[str, Any] | None, of_best: tuple[str, ...]
) -> list[str]:
  """A line of the numbers of each evaluation, and one on the best checkpoint, if the run kept it.

  Args:
    metrics: evaluation name -> its latest numbers.
    best: what `dl.training.loop.Result` says of the best checkpoint; None if there is none.
    of_best: evaluations which are of the best checkpoint.
  """
  of = lambda name: f' of the best checkpoint, of step {best["step"]:,}' if best and name in of_best else ''
  lines = [f'{name}{of(name)}: {"   ".join(numbers(values))}' for name, values in metrics.items()]
  if best is not None:
    split = best['metric'].partition('/')[0]
    others = {k: v for k, v in best['metrics'].items() if k != split and k not in of_best}
    there = ''.join(f'; {name} there: {"   ".join(numbers(values))}' for name, values in others.items())
    lines.append(f'best {best["metric"]}: {number(best["value"])} at step {best["step"]:,}{there}')
  return lines


def where(directory: pathlib.Path, task: Task, of_best: bool = False) -> list[str]:
  """Where to look now, and what to do with the model: that of the best checkpoint, where a result is of it."""
  step = ' --step=best' if of_best else ''
  lines = [f'report: {directory}/report.html']
  if type(task).predict is not Task.predict and task.info.input is not None:
    lines.append(f'predict: python -m dl.predict --workdir={directory}{step} --inputs=FILES')
  if type(task).sample is not Task.sample:
    lines.append(f'sample: python -m dl.sample --workdir={directory}{step}')
  return lines


def _data(run: Prepared) -> str:
  """'sklearn.Digits: train 1,437, test 360 examples; batches of 64'."""
  if run.parts.pipeline is None:
    per = run.parts.examples_per_step
    return 'made by the task' + (f', {per:,} examples a step' if per else '')
  sizes = {'train': run.parts.pipeline} | {name: p for name, p in run.evals.items() if p is not None}
  counts = ', '.join(f'{name} {len(pipeline.source):,}' for name, pipeline in sizes.items())
  data = run.experiment.data
  return f'{data["name"]}: {counts} examples; batches of {data["batch_size"]:,}'


def length(parts: Parts) -> str:
  """'40 epochs: 898 steps, 22.45 an epoch'."""
  total, epoch = parts.total_steps, parts.steps_per_epoch
  said = str(parts.experiment.train_for)
  steps = f'{total:,} steps' + (f', {number(epoch)} an epoch' if epoch else '')
  if said.removesuffix(' steps') == str(total):
    return steps + (f' ({tenths(total / epoch)} epochs)' if epoch else '')
  return f'{said}: {steps}'


def _evaluations(run: Prepared) -> str:
  """'test, judge every 22 steps; test of the best checkpoint at the end'."""
  along = [name for name in run.evals if name not in run.of_best]
  parts = [f'{", ".join(along)} {_when(run, "eval")}'] if along else []
  parts += [f'{", ".join(run.of_best)} of the best checkpoint at the end'] if run.of_best else []
  return '; '.join(parts)


def _when(run: Prepared, kind: str) -> str:
  """'every 22 steps', of something that is due along the way, or 'at the end', of what comes no sooner."""
  every = run.schedule.every.get(kind)
  if every is None or every >= run.schedule.total:
    return 'at the end'
  return 'every step' if every == 1 else f'every {every:,} steps'


def _devices(run: Prepared) -> str:
  """'1 x cpu (2 cores)', or '8 x NVIDIA H100, mesh data=4 model=2, sharding fsdp'."""
  devices = run.mesh.devices.flat
  text = f'{run.mesh.devices.size} x {devices[0].device_kind}'
  if devices[0].platform == 'cpu':
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    text += f' ({cores} core{"" if cores == 1 else "s"})'
  elif memory := (devices[0].memory_stats() or {}).get('bytes_limit'):
    text += f' ({amount(memory, "B")} each)'
  if run.mesh.devices.size > 1:
    text += f', mesh {" ".join(f"{axis}={size}" for axis, size in run.mesh.shape.items())}'
    text += f', sharding {run.experiment.sharding}'
  return text
