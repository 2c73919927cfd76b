"""python -m benchmarks.record [--only=digits_lenet]: runs the experiments as a user would, and writes what came out.

Each run is `python -m dl.train` in a process of its own. The numbers go to `experiments/results.json`; the table of
the README, and what docs/models.md says of them, are made from that file (--table: without running anything).
"""

import itertools
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import app, flags, logging

from benchmarks import models
from dl import config as configs
from dl.commands import evaluate
from dl.errors import ConfigError
from dl.store import logs
from dl.store import workdir as workdirs

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / 'experiments' / 'results.json'
GALLERY = ROOT / 'docs' / 'gallery' / 'runs'
BEGIN, END = '<!-- results: begin -->', '<!-- results: end -->'

EXPERIMENTS = {
  'vision/digits_perceptron': [''],
  'vision/digits_mlp': [''],
  'vision/digits_lenet': [''],
  'vision/digits_vit': [''],
  'vision/mnist_lenet': [''],
  'vision/mnist_cnn': [''],
  'vision/fashion_mlp': [''],
  'vision/fashion_cnn': [''],
  'vision/fashion_resnet20': [''],
  'vision/fashion_resnet18': [''],
  'vision/fashion_vgg16': [''],
  'vision/fashion_vit': [''],
  'vision/cifar10_resnet18': [''],
  'vision/imagenet_resnet50': [''],
  'vision/imagenet_vit_s16': [''],
  'vision/transfer_mnist_to_digits:pretrain': [''],
  'vision/transfer_mnist_to_digits:finetune': [''],
  'vision/transfer_mnist_to_digits:scratch': [''],
  'vision/vnc_unet': [''],
  'tabular/breast_cancer_mlp': [f':{fold}' for fold in range(5)],
  'tabular/diabetes_mlp': [''],
  'text/stdlib_gpt': [''],
  'text/shakespeare_gpt_cpu': [''],
  'text/shakespeare_gpt': [''],
  'text/shakespeare_rnn': [''],
  'text/shakespeare_gru': [''],
  'text/shakespeare_lstm': [''],
  'text/shakespeare_mamba': [''],
  'text/wikitext2_lstm_cpu': [''],
  'text/wikitext2_lstm': [''],
  'text/tatoeba_gru': [''],
  'text/tatoeba_transformer': [''],
  'text/e2e_seq2seq': [''],
  'text/sms_spam': [''],
  'text/sentiment_sentences:amazon': [''],
  'text/sentiment_sentences:imdb': [''],
  'text/sentiment_sentences:yelp': [''],
  'text/clinc150_intent': [''],
  'text/ncbi_ner': [''],
  'text/mlm_pretrain': [''],
  'text/clinc150_finetune:finetune': [''],
  'text/clinc150_finetune:scratch': [''],
  'text/scan_seq2seq:simple': [''],
  'text/scan_seq2seq:length': [''],
  'text/scan_seq2seq:jump': [''],
  'music/jsb_lstm': [''],
  'timeseries/etth1_dlinear': [''],
  'timeseries/etth1_nlinear': [''],
  'timeseries/etth1_lstm': [''],
  'timeseries/etth1_patchtst': [''],
  'timeseries/ucr_fcn:GunPoint': [''],
  'timeseries/ucr_fcn:OSULeaf': [''],
  'timeseries/ucr_resnet:GunPoint': [''],
  'timeseries/ucr_resnet:OSULeaf': [''],
  'timeseries/ucr_lstm:GunPoint': [''],
  'timeseries/ucr_lstm:OSULeaf': [''],
  'timeseries/ucr_lstm:JapaneseVowels': [''],
  'generative/digits_gan': [''],
  'rl/cartpole_ppo': [''],
}
"""Experiment, with the argument that it always has -> the further ones whose results are averaged (folds)."""

STARTS = {'vision/transfer_mnist_to_digits:finetune': 'transfer_mnist_to_digits_pretrain'}
"""Experiment -> the runs, of the same seed, which its own start from."""

HEADER = """
| experiment | parameters | metric | mean of seeds | each seed | compared with | training time | machine |
|---|---:|---|---:|---|---|---:|---|
""".strip()

JUDGED = {'generative/digits_gan': 'digits_lenet_seed0'}
"""Generative experiment -> the run of the classifier which judges 1,000 of its samples."""


def judged(seen: dict[str, Any]) -> dict[str, float]:
  """The three numbers of a classifier's verdict."""
  return {'min_share': min(seen['shares']), 'max_share': max(seen['shares']), 'confidence': seen['confidence']}


def file_of(name: str, argument: str) -> str:
  """The config file of an experiment, with its arguments."""
  file, _, stage = name.partition(':')
  return f'experiments/{file}.py' + (f':{stage}' if stage else '') + argument


def folder_of(name: str, argument: str, seed: int) -> str:
  """What the work directory of a run is called."""
  return f'{(pathlib.Path(name).name + argument).replace(":", "_")}_seed{seed}'


def shown(name: str) -> str:
  """The run of an experiment whose report the gallery shows: that of seed 0, and of the first fold."""
  return folder_of(name, EXPERIMENTS[name][0], 0)


def keep(workdir: pathlib.Path) -> None:
  """Copies what a report is made of, so not the checkpoints, to docs/gallery/runs, which the site shows."""
  kept = GALLERY / workdir.name
  shutil.rmtree(kept, ignore_errors=True)
  (kept / 'artifacts').mkdir(parents=True)
  for name in ('config.json', 'run.json', 'metrics.jsonl'):
    shutil.copy(workdir / name, kept)
  facts = workdirs.read_run(workdir)
  for step in {facts['step'], (facts.get('best') or facts)['step']}:  # of the last checkpoint, and of the best
    for path in (workdir / 'artifacts').glob(f'{step:08d}_*'):
      shutil.copy(path, kept / 'artifacts')


def run(name: str, argument: str, seed: int) -> dict[str, Any]:
  """Trains once in a fresh process; the record of it."""
  runs = pathlib.Path(flags.FLAGS.runs)  # from the root, so that what a run says of itself names no other place
  workdir = runs / folder_of(name, argument, seed)
  command = [
    *(sys.executable, '-m', 'dl.train', f'--config={file_of(name, argument)}', f'--workdir={workdir}'),
    *(f'--config.seed={seed}', *flags.FLAGS.set),
  ]
  if name in STARTS:
    command.append(f'--config.init_from.path={runs / STARTS[name]}_seed{seed}')
  if not flags.FLAGS.collect:
    subprocess.run(command, cwd=ROOT, env=os.environ, check=True)
  workdir = ROOT / workdir
  info, lines = workdirs.read_run(workdir), logs.read(workdir)
  if info['status'] != 'complete':
    raise ConfigError(f'{workdir}: this run is {info["status"]}, not complete')
  final = {r['split']: r for r in lines if r['split'] != 'train'}  # of the best checkpoint, or of the last
  metrics = {f'{split}/{k}': v for split, r in final.items() for k, v in r.items() if isinstance(v, float)}
  if name in JUDGED:
    seen = evaluate.judge(workdir, ROOT / runs / JUDGED[name], 1000)
    metrics |= {f'judge/{k}': v for k, v in judged(seen).items()}
  if workdir.name == shown(name):
    keep(workdir)
  return {
    'experiment': name,
    'argument': argument,
    'seed': seed,
    'metrics': metrics,
    'seconds': round(max(r.get('seconds', 0.0) for r in lines), 1),
    'steps': info['step'],
    'parameters': info['parameters'],
    'commit': info['commit'],
    'versions': info['versions'],
    'devices': info['devices'],
    'machine': machine(info['devices']),
    'date': info['finished'][:10],
  }


def machine(devices: dict[str, Any]) -> str:
  """What a run computed on."""
  if devices['platform'] == 'cpu':
    return f'{devices["cpus"]} CPU core{"s" if devices["cpus"] > 1 else ""} ({platform.machine()})'
  return f'{devices["count"]} {devices["kind"]}'


def table(records: Sequence[dict[str, Any]]) -> str:
  """The Markdown tables of recorded runs, one a family, each folded up under how many there are."""
  parts = []
  for family, names in itertools.groupby(EXPERIMENTS, lambda name: name.partition('/')[0]):
    names = list(names)
    recorded = {r['experiment'] for r in records}.intersection(names)
    counts = f'{len(names)} experiment{"s" * (len(names) > 1)}, {len(recorded)} recorded'
    rows = [line for name in names for line in rows_of(name, records)]
    rest = ', '.join(link(name) for name in names if name not in recorded)
    rest = f'\nNot yet run: {rest}.\n' if rest else ''
    table = '\n'.join([HEADER, *rows])
    parts.append(f'<details><summary>{family}: {counts}</summary>\n\n{table}\n{rest}\n</details>')
  return '\n'.join(parts)


def link(name: str) -> str:
  """A link to the config of an experiment."""
  file, _, stage = name.partition(':')
  return f'[`{file}.py{":" if stage else ""}{stage}`](experiments/{file}.py)'


class Measured(NamedTuple):
  """What the recorded runs of an experiment say of one metric, as a reader sees it; `mean` and `each` are of seeds."""

  metric: str
  mean: str
  each: str
  compared: str


def measured(name: str, rows: Sequence[dict[str, Any]]) -> list[Measured]:
  """Each metric of an experiment which its config expects, or its judge gives, from its records."""
  arguments, found = EXPERIMENTS[name], []
  experiment = configs.load(str(ROOT / file_of(name, arguments[0])))
  for metric in [*experiment.expect, *(m for m in rows[0]['metrics'] if m.startswith('judge/'))]:
    seeds = [
      statistics.mean(r['metrics'][metric] for r in rows if r['seed'] == seed)
      for seed in sorted({r['seed'] for r in rows})
    ]
    digits = 1 if max(seeds) > 10 else 4
    folds = f', mean of {len(arguments)} folds' if len(arguments) > 1 else ''
    each = ', '.join(f'{s:.{digits}f}' for s in seeds)
    compared = '; '.join(f'{method} {value}' for method, value in experiment.baselines.get(metric, {}).items())
    found.append(Measured(f'{metric}{folds}', f'{statistics.mean(seeds):.{digits}f}', each, compared))
  return found


def rows_of(name: str, records: Sequence[dict[str, Any]]) -> list[str]:
  """The lines of one experiment, one a metric; none of one that was not recorded."""
  rows = [r for r in records if r['experiment'] == name]
  seconds = statistics.median(r['seconds'] for r in rows) if rows else 0
  return [
    f'| {link(name)} | {rows[0]["parameters"]:,} | {m.metric} | {m.mean} | {m.each} | {m.compared} | {seconds:.0f} s '
    f'| {rows[0]["machine"]} |'
    for m in (measured(name, rows) if rows else ())
  ]


def write_table(records: Sequence[dict[str, Any]]) -> None:
  """Puts the table between its marks in the README."""
  readme = ROOT / 'README.md'
  text = readme.read_text()
  before, rest = text.split(BEGIN)
  readme.write_text(before + BEGIN + '\n' + table(records) + '\n' + END + rest.split(END)[1])


def main(argv: Sequence[str]) -> None:
  """Runs, records, and writes the table."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected argument {argv[1]!r}')
  logging.set_verbosity(logging.WARNING)  # Orbax logs every detail of a restore
  records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
  if not flags.FLAGS.table:
    for name, arguments in EXPERIMENTS.items():
      if flags.FLAGS.only not in name:
        continue
      for seed in map(int, flags.FLAGS.seeds):
        for argument in arguments:
          new = run(name, argument, seed)
          records = json.loads(RESULTS.read_text()) if RESULTS.exists() else []  # another process may have written
          same = lambda r, new=new: all(r[k] == new[k] for k in ('experiment', 'argument', 'seed'))
          records = [r for r in records if not same(r)] + [new]
          records.sort(key=lambda r: (list(EXPERIMENTS).index(r['experiment']), r['seed'], r['argument']))
          RESULTS.write_text(json.dumps(records, indent=1) + '\n')
  write_table(records)
  models.write_table()


if __name__ == '__main__':
  flags.DEFINE_string('only', '', 'Run the experiments whose name contains this.')
  flags.DEFINE_string('runs', 'runs', 'Where the work directories go.')
  flags.DEFINE_list('seeds', ['0', '1', '2'], 'Seeds of each experiment.')
  flags.DEFINE_multi_string('set', [], 'Arguments to pass on, such as --set=--config.data.path=data/stack1.zip.')
  flags.DEFINE_boolean('collect', False, 'Read the work directories of finished runs again, and run nothing.')
  flags.DEFINE_boolean('table', False, "Only write the README's table from the recorded runs.")
  app.run(main)
