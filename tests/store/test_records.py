"""JSON in files."""

import pytest

from dl.errors import ConfigError
from dl.store import records


def test_a_value_is_read_or_refused_in_one_line(tmp_path):
  path = tmp_path / 'x.json'
  with pytest.raises(FileNotFoundError):
    records.read(path)
  path.write_text('{"a": [1]}')
  assert records.read(path) == {'a': [1]}
  with pytest.raises(ConfigError, match=r'x\.json: expected a JSON list, got dict'):
    records.read(path, list)
  for content in (b'{"a": ', b'\xff'):
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r'x\.json: cannot be read as JSON: .+') as e:
      records.read(path)
    assert '\n' not in str(e.value)
  with pytest.raises(ConfigError, match='cannot be read: Is a directory'):
    records.read(tmp_path)


def test_what_is_no_record_is_told_by_line(tmp_path):
  assert list(records.lines(tmp_path / 'none.jsonl')) == []
  path = tmp_path / 'x.jsonl'
  path.write_bytes(b'{"step": 1}\n[2]\n\xff\n{"st')
  assert list(records.lines(path)) == [({'step': 1}, b'{"step": 1}'), (None, b'[2]'), (None, b'\xff'), (None, b'{"st')]
