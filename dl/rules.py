"""Which mesh axis splits which weights: class of the model -> (regex of a path, axes of the last dimensions).

The pairs are Megatron-LM's (arXiv 1909.08053): a layer that widens is split by its outputs, the next one by its inputs,
so that a sum over devices is due once for both. Tables of embeddings are split by their rows.
"""

Rules = tuple[tuple[str, tuple[str | None, ...]], ...]


def _outputs(layer: str) -> Rules:
  """A layer of which each device has some outputs, and the norm behind it, if `layer` names one."""
  return ((rf'(^|/){layer}/kernel$', (None, 'model')), (rf'(^|/){layer}/(bias|scale)$', ('model',)))


def _inputs(layer: str) -> Rules:
  """A layer of which each device has some inputs; all have its bias."""
  return ((rf'(^|/){layer}/kernel$', ('model', None)),)


RULES: dict[str, Rules] = {
  'GPT': (
    ('(^|/)experts/up$', ('expert', None, 'model')),
    ('(^|/)experts/down$', ('expert', 'model', None)),
    *_outputs('attention/qkv'),
    *_inputs('attention/out'),
    *_outputs('up'),
    *_inputs('down'),
    ('(^|/)token/embedding$', ('model', None)),
    *_outputs('^out'),
  ),
  'ViT': (*_outputs('attn/qkv'), *_inputs('attn/proj'), *_outputs('mlp/fc1'), *_inputs('mlp/fc2')),
  'MLPMixer': (*_outputs('mlp_(tokens|channels)/fc1'), *_inputs('mlp_(tokens|channels)/fc2')),
  'ConvNeXt': (*_outputs('block_3'), *_inputs('block_5')),
  'ResNet': (*_outputs(r'layer\d+_\d+/(conv|bn)1'), *_inputs(r'layer\d+_\d+/conv2')),
  'VGG': (*_outputs('classifier_0'), *_inputs('classifier_3')),
  'AlexNet': (*_outputs('classifier_1'), *_inputs('classifier_4')),
  'MLP': (*_outputs(r'(dense|norm)_\d*[02468]'), *_inputs(r'dense_\d*[13579]')),
  'ActorCritic': (*_outputs('(actor|critic)_0'), *_inputs('(actor|critic)_1')),
  'ConvGenerator': (*_outputs(r'(conv|norm)_\d*[02468]'), *_inputs(r'conv_\d*[13579]')),
  'ConvDiscriminator': (*_outputs(r'(conv|norm)_\d*[02468]'), *_inputs(r'conv_\d*[13579]')),
}
