import io

from dl.show.words import duration
from dl.training.progress import Progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Clock:
  now = 0.0

  def __call__(self):
    return self.now


def run(stream, total=1000, start=0, seconds_a_step=0.1, **options):
  clock = Clock()
  with Progress(total, start, stream=stream, clock=clock, **options) as progress:
    clock.now = 30.0  # the first step compiles
    for step in range(start + 1, total + 1):
      progress.update(step, {'loss': 1 / step, 'per_class': [1.0]} if step % 50 == 0 else None)
      clock.now += seconds_a_step


def test_plain_lines_come_every_ten_seconds_without_control_characters():
  stream = io.StringIO()
  run(stream)
  lines = stream.getvalue().splitlines()
  # 100 s of steps: the first step (30 s in), the first numbers, then one every 10 s, then the end.
  assert 10 <= len(lines) <= 13
  assert all(line.isprintable() for line in lines)
  assert lines[-1].startswith('1,000/1,000   100%') and 'left' not in lines[-1]
  assert lines[-1].endswith('loss 0.001')


def test_the_rate_and_the_time_left_leave_compilation_out():
  stream = io.StringIO()
  run(stream)
  line = next(line for line in stream.getvalue().splitlines() if line.startswith('201/') or line.startswith('250/'))
  assert '10 steps/s' in line
  left = next(part for part in line.split('   ') if part.endswith('left'))
  assert left in ('0:01:15 left', '0:01:20 left')


def test_a_resumed_run_counts_its_own_steps_for_the_rate():
  stream = io.StringIO()
  run(stream, total=1000, start=900)
  last = stream.getvalue().splitlines()[-1]
  assert last.startswith('1,000/1,000') and '9.9 steps/s' in last


def test_a_terminal_gets_a_bar_with_the_latest_numbers():
  stream = Terminal()
  progress = Progress(10, stream=stream)
  for step in range(1, 11):
    progress.update(step, {'loss': step / 10})
  progress.note('saved step 10')
  progress.close()
  progress.close()
  text = stream.getvalue()
  assert '10/10' in text and 'loss 1' in text
  assert 'saved step 10\n' in text


def test_steps_may_jump_and_nothing_is_shown_for_a_run_of_no_steps():
  stream = io.StringIO()
  with Progress(0, stream=stream):
    pass
  assert stream.getvalue() == ''
  with Progress(100, stream=stream) as progress:
    progress.update(25)
    progress.update(50)
    progress.note('a word')
  assert stream.getvalue().splitlines()[0] == 'a word'
  assert stream.getvalue().splitlines()[1].startswith('50/100   50%')


def test_duration():
  assert [duration(s) for s in (0, 61.6, 3600, 90061)] == ['0:00:00', '0:01:02', '1:00:00', '1d 1:01:01']
