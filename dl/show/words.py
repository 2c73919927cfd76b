"""Numbers, sizes and times in words."""


def duration(seconds: float) -> str:
  """Seconds as 'h:mm:ss', with days before them where there are any."""
  minutes, s = divmod(round(seconds), 60)
  hours, m = divmod(minutes, 60)
  days, h = divmod(hours, 24)
  return (f'{days}d ' if days else '') + f'{h}:{m:02}:{s:02}'


def gigabytes(size: float) -> str:
  """Bytes as '1,234.5 GB'."""
  return f'{size / 1e9:,.1f} GB'
