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


_RESNET = (*_outputs(r'layer\d+_\d+/(conv|bn)1'), *_inputs(r'layer\d+_\d+/conv2'))

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
  'ResNet': _RESNET,
  'FCN': _RESNET,
  'DeepLabV3': _RESNET,
  'EfficientNet': (
    *_outputs(r'features_\d+_\d+/block_[01]/[01]'),
    *_inputs('block_2/fc1'),
    *_outputs('block_2/fc2'),
    *_inputs('block_3/0'),
  ),
  'GoogLeNet': (*_outputs('branch[23]_0/(conv|bn)'), *_inputs('branch[23]_1/conv')),
  'InceptionV3': (
    *_outputs(r'branch\w+_1/(conv|bn)'),
    *_inputs(r'branch\w+_2[ab]?/conv'),
    *_outputs('branch7x7(dbl|x3)_3/(conv|bn)'),
    *_inputs('branch7x7(dbl|x3)_4/conv'),
  ),
  'UNet': (*_outputs(r'(en|de)coder_\d+/(conv|norm)_0'), *_inputs(r'(en|de)coder_\d+/conv_1')),
  'DeconvNet': (*_outputs(r'(en|de)coder_\d+_\d*[02468]/(conv|norm)'), *_inputs(r'(en|de)coder_\d+_\d*[13579]/conv')),
  'CNN': (*_outputs(r'(conv|norm)_\d+_\d*[02468]'), *_inputs(r'conv_\d+_\d*[13579]')),
  'LeNet5': (*_outputs('dense_0'), *_inputs('dense_1')),
  'LeNet5Original': (*_outputs('c5'), *_inputs('f6')),
  'Shallow': (*_outputs('hidden'), *_inputs('out')),
  'VGG': (*_outputs('classifier_0'), *_inputs('classifier_3')),
  'AlexNet': (*_outputs('classifier_1'), *_inputs('classifier_4')),
  'MLP': (*_outputs(r'(dense|norm)_\d*[02468]'), *_inputs(r'dense_\d*[13579]')),
  'ActorCritic': (*_outputs('(actor|critic)_0'), *_inputs('(actor|critic)_1')),
  'ConvGenerator': (*_outputs(r'(conv|norm)_\d*[02468]'), *_inputs(r'conv_\d*[13579]')),
  'ConvDiscriminator': (*_outputs(r'(conv|norm)_\d*[02468]'), *_inputs(r'conv_\d*[13579]')),
}
