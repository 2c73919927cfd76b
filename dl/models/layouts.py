"""Tables of tensor names: layout -> class of the model -> (regex of a whole name, replacement); for `init_from`."""

Table = list[tuple[str, str | None]]

_VIT_HUGGINGFACE: Table = [
  (r'(?:vit\.)?pooler\..*', None),  # a layer for pre-training alone
  (r'(?:vit\.)?embeddings\.cls_token', 'cls_token'),
  (r'(?:vit\.)?embeddings\.position_embeddings', 'pos_embed'),
  (r'(?:vit\.)?embeddings\.patch_embeddings\.projection\.(.*)', r'patch_embed.proj.\1'),
  # Names inside a layer are those of the published files, or of a module of transformers 5.
  *[
    (rf'(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.{theirs}\.(weight|bias)', rf'blocks.\1.{ours}.\2{part}')
    for theirs, ours, part in (
      (r'attention\.(?:attention\.query|q_proj)', 'attn.qkv', '#0'),
      (r'attention\.(?:attention\.key|k_proj)', 'attn.qkv', '#1'),
      (r'attention\.(?:attention\.value|v_proj)', 'attn.qkv', '#2'),
      (r'attention\.(?:output\.dense|o_proj)', 'attn.proj', ''),
      (r'(?:intermediate\.dense|mlp\.fc1)', 'mlp.fc1', ''),
      (r'(?:output\.dense|mlp\.fc2)', 'mlp.fc2', ''),
      ('layernorm_before', 'norm1', ''),
      ('layernorm_after', 'norm2', ''),
    )
  ],
  (r'(?:vit\.)?layernorm\.(.*)', r'norm.\1'),
  (r'classifier\.(.*)', r'head.\1'),
]

_VIT_TORCHVISION: Table = [
  ('class_token', 'cls_token'),
  (r'conv_proj\.(.*)', r'patch_embed.proj.\1'),
  (r'encoder\.pos_embedding', 'pos_embed'),
  *[
    (rf'encoder\.layers\.encoder_layer_(\d+)\.{theirs}(weight|bias)', rf'blocks.\1.{ours}.\2')
    for theirs, ours in (
      (r'ln_1\.', 'norm1'),
      (r'ln_2\.', 'norm2'),
      (r'self_attention\.in_proj_', 'attn.qkv'),
      (r'self_attention\.out_proj\.', 'attn.proj'),
      (r'mlp\.(?:0|linear_1)\.', 'mlp.fc1'),
      (r'mlp\.(?:3|linear_2)\.', 'mlp.fc2'),
    )
  ],
  (r'encoder\.ln\.(.*)', r'norm.\1'),
  (r'heads\.head\.(.*)', r'head.\1'),
]

_CONVNEXT_HUGGINGFACE: Table = [
  (r'(?:convnext\.)?embeddings\.patch_embeddings\.(.*)', r'features.0.0.\1'),
  (r'(?:convnext\.)?embeddings\.layernorm\.(.*)', r'features.0.1.\1'),
  *[
    (rf'(?:convnext\.)?encoder\.stages\.{i}\.{theirs}', ours)
    for i in range(4)
    for theirs, ours in (
      (r'downsampling_layer\.(.*)', rf'features.{2 * i}.\1'),
      (r'layers\.(\d+)\.layer_scale_parameter', rf'features.{2 * i + 1}.\1.layer_scale'),
      (r'layers\.(\d+)\.dwconv\.(.*)', rf'features.{2 * i + 1}.\1.block.0.\2'),
      (r'layers\.(\d+)\.layernorm\.(.*)', rf'features.{2 * i + 1}.\1.block.2.\2'),
      (r'layers\.(\d+)\.pwconv1\.(.*)', rf'features.{2 * i + 1}.\1.block.3.\2'),
      (r'layers\.(\d+)\.pwconv2\.(.*)', rf'features.{2 * i + 1}.\1.block.5.\2'),
    )
  ],
  (r'(?:convnext\.)?layernorm\.(.*)', r'classifier.0.\1'),
  (r'classifier\.(.*)', r'classifier.2.\1'),
]

_CONVNEXT_TIMM: Table = [
  (r'stem\.(.*)', r'features.0.\1'),
  *[
    (rf'stages\.{i}\.{theirs}', ours)
    for i in range(4)
    for theirs, ours in (
      (r'downsample\.(.*)', rf'features.{2 * i}.\1'),
      (r'blocks\.(\d+)\.gamma', rf'features.{2 * i + 1}.\1.layer_scale'),
      (r'blocks\.(\d+)\.conv_dw\.(.*)', rf'features.{2 * i + 1}.\1.block.0.\2'),
      (r'blocks\.(\d+)\.norm\.(.*)', rf'features.{2 * i + 1}.\1.block.2.\2'),
      (r'blocks\.(\d+)\.mlp\.fc1\.(.*)', rf'features.{2 * i + 1}.\1.block.3.\2'),
      (r'blocks\.(\d+)\.mlp\.fc2\.(.*)', rf'features.{2 * i + 1}.\1.block.5.\2'),
    )
  ],
  (r'head\.norm\.(.*)', r'classifier.0.\1'),
  (r'head\.fc\.(.*)', r'classifier.2.\1'),
]

# B0 to B7: the first stage does not widen, so that its blocks have one convolution less.
_EFFICIENTNET_TIMM: Table = [
  (r'conv_stem\.(.*)', r'features.0.0.\1'),
  (r'bn1\.(.*)', r'features.0.1.\1'),
  *[
    (rf'blocks\.{i}\.(\d+)\.{theirs}\.(.*)', rf'features.{i + 1}.\1.block.{ours}.\2')
    for i in range(7)
    for theirs, ours in (
      *([] if i == 0 else [('conv_pw', '0.0'), ('bn1', '0.1')]),
      ('conv_dw', f'{min(i, 1)}.0'),
      (f'bn{1 + min(i, 1)}', f'{min(i, 1)}.1'),
      (r'se\.conv_reduce', f'{1 + min(i, 1)}.fc1'),
      (r'se\.conv_expand', f'{1 + min(i, 1)}.fc2'),
      ('conv_pwl' if i else 'conv_pw', f'{2 + min(i, 1)}.0'),
      (f'bn{2 + min(i, 1)}', f'{2 + min(i, 1)}.1'),
    )
  ],
  (r'conv_head\.(.*)', r'features.8.0.\1'),
  (r'bn2\.(.*)', r'features.8.1.\1'),
  (r'classifier\.(.*)', r'classifier.1.\1'),
]

_RESNET_HUGGINGFACE: Table = [
  (r'(?:resnet\.)?embedder\.embedder\.convolution\.(.*)', r'conv1.\1'),
  (r'(?:resnet\.)?embedder\.embedder\.normalization\.(.*)', r'bn1.\1'),
  *[
    (rf'(?:resnet\.)?encoder\.stages\.{i}\.layers\.(\d+)\.{theirs}\.(.*)', rf'layer{i + 1}.\1.{ours}.\2')
    for i in range(4)
    for theirs, ours in (
      (r'shortcut\.convolution', 'downsample.0'),
      (r'shortcut\.normalization', 'downsample.1'),
      *((rf'layer\.{j}\.convolution', f'conv{j + 1}') for j in range(3)),
      *((rf'layer\.{j}\.normalization', f'bn{j + 1}') for j in range(3)),
    )
  ],
  (r'classifier\.1\.(.*)', r'fc.\1'),
]

LAYOUTS: dict[str, dict[str, Table]] = {
  'huggingface': {'ConvNeXt': _CONVNEXT_HUGGINGFACE, 'ResNet': _RESNET_HUGGINGFACE, 'ViT': _VIT_HUGGINGFACE},
  'timm': {'ConvNeXt': _CONVNEXT_TIMM, 'EfficientNet': _EFFICIENTNET_TIMM},
  'torchvision': {'ViT': _VIT_TORCHVISION},
}
