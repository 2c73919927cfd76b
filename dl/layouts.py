"""Tables of tensor names: layout -> class of the model -> (regex of a whole name, replacement); see `dl.weights`."""

LAYOUTS: dict[str, dict[str, list[tuple[str, str | None]]]] = {
  'huggingface': {},
  'timm': {},
}
