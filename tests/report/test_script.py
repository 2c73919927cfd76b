"""The script of the page, in a browser: axes, smoothing, zoom, logarithms, and lines hidden by the legend."""

import json
import re
import shutil
import subprocess

import pytest
from report.test_report import make_run

from dl import report

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)

PRESSES = """
const figure = document.querySelector('.chart'), svg = figure.querySelector('svg'), found = {};
const texts = () => [...svg.querySelectorAll('text')].map((t) => t.textContent);
const line = () => [...svg.querySelectorAll('g.line')].map((g) => g.querySelectorAll('polyline').length);
const change = (name, value, event) => {
  const control = document.querySelector(`[data-control="${name}"]`);
  control.value = value;
  control.dispatchEvent(new Event(event));
};
found.controls = !document.querySelector('.controls').hidden;
found.steps = texts();
change('axis', 'epoch', 'change');
found.epochs = texts();
change('axis', 'time', 'change');
found.time = texts();
change('axis', 'step', 'change');
found.plain = line();
change('smoothing', '0.9', 'input');
found.smoothed = line();
found.output = document.querySelector('output').textContent;
change('smoothing', '0', 'input');
const box = svg.getBoundingClientRect();
const at = (share) => ({clientX: box.left + box.width * (56 + share * 412) / 480, clientY: box.top + 50, pointerId: 1});
svg.setPointerCapture = () => {};
svg.dispatchEvent(new PointerEvent('pointermove', at(0.5)));
found.tip = figure.querySelector('.tip').textContent;
svg.dispatchEvent(new PointerEvent('pointerdown', at(0.5)));
svg.dispatchEvent(new PointerEvent('pointermove', at(0.9)));
svg.dispatchEvent(new PointerEvent('pointerup', at(1.0)));
found.zoomed = texts();
found.others = [...document.querySelectorAll('.chart')][1].querySelector('svg').textContent;
found.reset = document.querySelector('[data-control="reset"]').disabled;
document.querySelector('[data-control="reset"]').click();
found.whole = texts();
figure.querySelector('figcaption button').click();
found.log = texts();
document.querySelector('.legend button[data-value="train"]').click();
found.hidden = line().length;
const pre = document.createElement('pre');
pre.textContent = 'FOUND' + JSON.stringify(found);
document.body.replaceChildren(pre);
"""


@pytest.mark.thorough
@pytest.mark.skipif(BROWSER is None, reason='there is no chromium')
def test_the_controls_do_what_they_say(tmp_path):
  run = make_run(tmp_path / 'run')
  facts = json.loads((run / 'run.json').read_text())
  facts['data']['steps_per_epoch'] = 100.0
  (run / 'run.json').write_text(json.dumps(facts))
  page = report.write([run], tmp_path / 'report.html')
  text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', '', page.read_text())  # which admits one script
  (tmp_path / 'pressed.html').write_text(text.replace('</body>', f'<script>{PRESSES}</script></body>'))
  done = subprocess.run(
    [BROWSER, '--headless', '--no-sandbox', '--disable-gpu', '--dump-dom', f'file://{tmp_path}/pressed.html'],
    capture_output=True, text=True, timeout=120, check=True,
  )  # fmt: skip
  assert 'FOUND' in done.stdout, done.stdout[-2000:]
  found = json.loads(
    re.search(r'FOUND(\{.*\})</pre>', done.stdout, re.DOTALL)[1].replace('&gt;', '>').replace('&amp;', '&')
  )
  assert found['controls'] and 'step' in found['steps'] and '1,000' in found['steps']
  assert 'epoch' in found['epochs'] and '10' in found['epochs']
  assert 'time' in found['time'] and any(re.fullmatch(r'0:0\d', t) for t in found['time'])
  assert found['smoothed'] == [2 * n for n in found['plain']] and found['output'] == '0.90'
  assert found['tip'].startswith('step ') and 'test' in found['tip'] and 'train' in found['tip']
  assert '0' not in found['zoomed'][-7:] and '600' in found['zoomed'] and '600' in found['others']
  assert found['reset'] is False and found['whole'] == found['steps']
  assert found['log'] != found['whole'] and found['hidden'] == 1
