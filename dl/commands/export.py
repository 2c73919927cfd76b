"""python -m dl.export --workdir=runs/gpt --output=my-gpt

Writes a trained network as a folder of Hugging Face's layout: model.safetensors, config.json and, where the data of the
run has one, the tokenizer. `AutoModelForCausalLM.from_pretrained('my-gpt')` of transformers reads it, and so does
another run: init_from=dict(name='tensors', path='my-gpt/model.safetensors', layout='huggingface').

With --adapters, the file adapters.safetensors alone: what a network with adapters (config.model.lora) has trained.
A run with the same ones takes it on top of the weights that they began with: init_from=dict(..., adapters=FOLDER).
Without, adapters are merged into the weights.

The networks are those whose class has an export: BERT, GPT, Llama, Mamba, T5. Options of theirs that Hugging Face has
not are refused.
"""

import pathlib
from collections.abc import Sequence

from absl import flags

from dl.commands import cli
from dl.errors import ConfigError


def define_flags() -> None:
  """The flags of the command: not defined on import, so that a program may import several commands."""
  flags.DEFINE_string('workdir', None, 'Work directory of a run.')
  flags.DEFINE_string('step', None, "Checkpoint to use: a step, or 'best'; the newest if not given.")
  flags.DEFINE_string('output', None, 'Folder to write, which is made if needed.')
  flags.DEFINE_bool('adapters', False, 'Whether to write the adapters of the network alone.')


def main(argv: Sequence[str]) -> None:
  """Writes the folder."""
  cli.no_more(argv)
  FLAGS = flags.FLAGS
  from dl import export
  from dl.training import adapters, restore

  workdir, output = cli.required('workdir'), pathlib.Path(cli.required('output'))
  cli.check_folder(output)
  task, state = restore.load(workdir, cli.step(FLAGS.step))
  if len(task.players) > 1:
    raise ConfigError(f'{workdir}: has several networks, {", ".join(task.players)}; one alone can be exported')
  if FLAGS.adapters:
    with cli.writing(output):
      output.mkdir(parents=True, exist_ok=True)
      count = adapters.save(task.model, state.params['model'], output / adapters.FILE)
    print(f'step {int(state.step)}: {adapters.FILE}, {count:,} numbers, in {output}')
    return
  with cli.writing(output):
    files = export.save(task.model, state.params['model'], task.info, output)
  print(f'step {int(state.step)}: {", ".join(file.name for file in files)} in {output}')
