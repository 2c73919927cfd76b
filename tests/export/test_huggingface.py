"""Folders for Hugging Face: transformers reads them to the same outputs, and they load again bit for bit."""

import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import dl
from dl.contract.info import Info
from dl.data.tokenizers import subwords
from dl.errors import ConfigError
from dl.export import huggingface
from dl.models.bert import BERT
from dl.models.gpt import GPT
from dl.models.llama import Llama
from dl.models.mamba import Mamba
from dl.models.rnn import RecurrentLanguageModel
from dl.models.t5 import T5
from dl.training import start

TINY = dict(vocab_size=31, layers=2, width=24)
ENCODER = dict(TINY, length=16, heads=4, hidden=40, segments=2, dropout=0.0)
DECODER = dict(TINY, length=16, heads=4)
PAIRS = dict(TINY, heads=3, head_dim=6, hidden=26, buckets=8, distance=6, dropout=0.0)
TOKENS = np.random.default_rng(0).integers(0, 31, (3, 11))
SOURCE = np.random.default_rng(1).integers(0, 31, (3, 7))

MODELS = {
  'bert masked': (BERT(**ENCODER), 'AutoModelForMaskedLM', 'logits'),
  'bert pooled': (BERT(**ENCODER, head='pooled'), 'AutoModel', 'pooler_output'),
  'bert features': (BERT(**ENCODER, head='features', activation='relu'), 'AutoModel', 'last_hidden_state'),
  'bert texts': (BERT(**ENCODER, head='pooled', num_outputs=5), 'AutoModelForSequenceClassification', 'logits'),
  'bert tokens': (BERT(**ENCODER, head='each', num_outputs=5), 'AutoModelForTokenClassification', 'logits'),
  'gpt': (GPT(**DECODER), 'AutoModelForCausalLM', 'logits'),
  'gpt untied': (GPT(**DECODER, tie_embeddings=False, activation='silu'), 'AutoModelForCausalLM', 'logits'),
  'llama': (Llama(**DECODER, hidden=40, groups=2, rope_base=5e4), 'AutoModelForCausalLM', 'logits'),
  'llama tied': (Llama(**DECODER, hidden=40, tie_embeddings=True), 'AutoModelForCausalLM', 'logits'),
  't5': (T5(**PAIRS), 'AutoModelForSeq2SeqLM', 'logits'),
  't5 1.1': (T5(**PAIRS, gated=True, tie_embeddings=False), 'AutoModelForSeq2SeqLM', 'logits'),
  'mamba': (Mamba(**TINY, states=5), 'AutoModelForCausalLM', 'logits'),
}


def inputs(model):
  return {'source': SOURCE, 'target': TOKENS} if isinstance(model, T5) else TOKENS


def drawn(model):
  """Parameters which are large enough that outputs differ."""
  shapes = jax.eval_shape(model.init, jax.random.key(0), inputs(model))['params']
  rng = np.random.default_rng(2)
  near = lambda path, x: np.float32(
    rng.normal(1.0 if path[-1].key == 'scale' else 0.0, 0.3 if path[-1].key != 'A_log' else 0.1, x.shape)
  )
  return jax.tree.map_with_path(near, shapes)


def read(folder, model):
  like = jax.eval_shape(model.init, jax.random.key(0), inputs(model))
  return start.convert(start.read(folder / 'model.safetensors'), like, model=model, layout='huggingface')


@pytest.mark.parametrize(('model', 'kind', 'output'), MODELS.values(), ids=MODELS)
def test_transformers_reads_what_is_written_and_so_do_we(model, kind, output, tmp_path):
  torch, transformers = pytest.importorskip('torch'), reference.transformers()
  params = drawn(model)
  huggingface.save(model, params, Info(), tmp_path)
  jax.tree.map(np.testing.assert_array_equal, read(tmp_path, model)['params'], params)
  theirs, said = getattr(transformers, kind).from_pretrained(tmp_path, output_loading_info=True)
  left = [name for name in said['missing_keys'] if 'pooler' not in name or output != 'last_hidden_state']
  assert not left and not said['unexpected_keys'] and not said['mismatched_keys']
  tokens = torch.tensor(TOKENS)
  given = (
    dict(input_ids=torch.tensor(SOURCE), decoder_input_ids=tokens) if isinstance(model, T5) else dict(input_ids=tokens)
  )
  with torch.no_grad():
    expected = getattr(theirs.eval()(**given), output).numpy()
  ours = jax.jit(model.apply)({'params': params}, inputs(model))
  assert expected.std() > 0.1
  np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize('name', ['bert masked', 'gpt', 't5', 'mamba'])
def test_scanned_blocks_come_back_bit_for_bit(name, tmp_path):
  model = MODELS[name][0].clone(scan=True)
  params = drawn(model)
  huggingface.save(model, params, Info(), tmp_path)
  jax.tree.map(np.testing.assert_array_equal, read(tmp_path, model)['params'], params)


def test_scanned_blocks_are_written_and_read_as_unrolled_ones_are(tmp_path):
  """Names, order and values: block 1 of a stack is block 1."""
  scanned = Llama(**DECODER, hidden=40, scan=True)
  params = drawn(scanned)
  unrolled = {k: v for k, v in params.items() if k != 'blocks'}
  unrolled |= {f'block_{i}': jax.tree.map(lambda x, i=i: x[i], params['blocks']) for i in range(2)}
  one, other = huggingface.tensors(scanned, params), huggingface.tensors(scanned.clone(scan=False), unrolled)
  jax.tree.map(np.testing.assert_array_equal, one, other)
  huggingface.save(scanned, params, Info(), tmp_path)
  jax.tree.map(np.testing.assert_array_equal, read(tmp_path, scanned.clone(scan=False))['params'], unrolled)
  tensors = start.read(tmp_path / 'model.safetensors')
  del tensors['model.layers.1.mlp.up_proj.weight']
  like = jax.eval_shape(scanned.init, jax.random.key(0), TOKENS)
  with pytest.raises(ConfigError, match='missing block_1/up/kernel'):
    start.convert(tensors, like, model=scanned, layout='huggingface')
  left = start.convert(tensors, like, model=scanned, layout='huggingface', exclude=['blocks/up'])['params']
  assert left['blocks']['up']['kernel'] is None and left['blocks']['down']['kernel'] is not None


def test_the_tokenizer_and_the_names_of_classes_go_along(tmp_path):
  transformers = reference.transformers()
  texts = ['the cat sat on the mat', 'the dog sat on the log', 'a cat and a dog']
  tokenizer = subwords.learn(texts, 'wordpiece', 60, lowercase=True)
  model = BERT(**ENCODER | dict(vocab_size=60), head='pooled', num_outputs=2)
  info = Info(tokenizer=tokenizer, class_names=('cats', 'dogs'))
  files = huggingface.save(model, drawn(model), info, tmp_path)
  assert [file.name for file in files] == list(huggingface.FILES) and all(file.is_file() for file in files)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  text = 'The dog and the [MASK] sat'
  ids = theirs(text, add_special_tokens=False)['input_ids']
  assert ids == subwords.encode(text, tokenizer, 'here').tolist() and theirs.mask_token_id == subwords.blank(tokenizer)
  assert theirs.model_max_length == 16
  assert transformers.AutoConfig.from_pretrained(tmp_path).id2label == {0: 'cats', 1: 'dogs'}
  with pytest.raises(ConfigError, match=r'holds a model\.safetensors already; name another folder'):
    huggingface.save(model, drawn(model), info, tmp_path)


@pytest.mark.parametrize(
  ('model', 'says'),
  [
    (GPT(**DECODER, rope=True), 'Hugging Face has no GPT with rope=True, but with False alone'),
    (GPT(**DECODER, use_bias=False), 'no GPT with use_bias=False'),
    (GPT(**DECODER, ngrams=(2,)), r'no GPT with ngrams=\(2,\)'),
    (GPT(**DECODER, experts=2), 'no GPT with experts=2'),
    (GPT(**DECODER, activation='snake'), "not known to have the activation 'snake'"),
    (BERT(**ENCODER, head='mean', num_outputs=3), "no BERT with the head 'mean'"),
    (RecurrentLanguageModel(vocab_size=31), 'RecurrentLanguageModel has no layout of Hugging Face'),
  ],
)
def test_what_hugging_face_has_not_is_refused_and_nothing_is_written(model, says, tmp_path):
  with pytest.raises(ConfigError, match=says):
    huggingface.save(model, {}, Info(), tmp_path / 'new')
  assert not (tmp_path / 'new').exists()


def test_a_number_that_the_network_lacks_is_no_guess():
  model = GPT(**DECODER)
  params = flax.core.copy(drawn(model))
  with pytest.raises(ConfigError, match=r'--layout: extra norm\.weight'):
    huggingface.tensors(model, {k: v for k, v in params.items() if k != 'norm'} | {'norm': {'bias': jnp.zeros(24)}})


def test_the_command(runs, command, tmp_path):
  transformers = reference.transformers()
  run, folder = f'--workdir={runs("masked")}', tmp_path / 'new' / 'bert'
  code, out, err = command('dl.export', run, f'--output={folder}')
  assert (code, err, out.partition(' in ')[2]) == (0, '', f'{folder}\n') and 'model.safetensors, config.json' in out
  torch, (task, state) = pytest.importorskip('torch'), dl.load(runs('masked'))
  tokens = TOKENS[:, : task.model.length] % task.model.vocab_size
  with torch.no_grad():
    expected = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()(torch.tensor(tokens)).logits
  ours = task.model.apply({'params': state.params['model']}, tokens)
  np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
  for arguments, says in (
    ((run,), '--output is needed'),
    ((run, f'--output={folder}'), f'--output: {folder} holds a model.safetensors already'),
    ((run, f'--output={folder}/config.json'), f'--output: {folder}/config.json is a file'),
    ((f'--workdir={runs("gan")}', f'--output={tmp_path}/gan'), 'has several networks, generator, discriminator'),
    ((f'--workdir={runs("perceptron")}', f'--output={tmp_path}/p'), 'Perceptron has no layout of Hugging Face'),
  ):
    code, out, err = command('dl.export', *arguments)
    assert (code, out, err.count('\n')) == (2, '', 1) and says in err


def test_the_config_is_plain_json(tmp_path):
  model = Mamba(**TINY)
  huggingface.save(model, drawn(model), Info(vocabulary=('a',)), tmp_path)
  config = json.loads((tmp_path / 'config.json').read_text())
  assert (config['model_type'], config['time_step_rank'], config['dtype']) == ('mamba', 2, 'float32')
  assert not (tmp_path / 'tokenizer.json').exists()
