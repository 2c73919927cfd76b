'use strict';
// Values under the pointer, lines shown and hidden by the legend, logarithmic axes, and earlier images.

const LEFT = 56, RIGHT = 12, WIDTH = 480;  // as in chart.py
const hidden = {run: new Set(), split: new Set()};

const shown = (line) => !hidden.run.has(String(line.run)) && !hidden.split.has(line.split);

const format = (v) => {
  const size = Math.abs(v);
  if (Number.isInteger(v) && size < 1e7) return v.toLocaleString('en');
  if (size >= 0.01 && size < 10) return v.toFixed(4);
  return String(Number(v.toPrecision(4)));
};

function nearest(xs, x) {
  let low = 0, high = xs.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (xs[middle] < x) low = middle; else high = middle;
  }
  return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

for (const chart of document.querySelectorAll('.chart[data-lines]')) {
  const lines = JSON.parse(chart.dataset.lines);
  const tip = chart.appendChild(element('div', 'tip'));
  tip.hidden = true;
  const leave = () => {
    tip.hidden = true;
    for (const cross of chart.querySelectorAll('.cross')) cross.setAttribute('hidden', '');
  };
  for (const svg of chart.querySelectorAll('svg')) {
    const [x0, x1] = svg.dataset.frame.split(' ').map(Number);
    const cross = svg.querySelector('.cross');
    svg.addEventListener('pointerleave', leave);
    svg.addEventListener('pointermove', (event) => {
      const box = svg.getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width * WIDTH;
      const x = x0 + (at - LEFT) / (WIDTH - LEFT - RIGHT) * (x1 - x0);
      const rows = lines.filter((line) => shown(line) && line.x.length).map((line) => {
        const i = nearest(line.x, x);
        return {line, x: line.x[i], y: line.y[i]};
      });
      if (!rows.length) return leave();
      const closest = rows.reduce((a, b) => Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a).x;
      tip.replaceChildren(element('small', '', 'step ' + closest.toLocaleString('en')));
      for (const row of rows) {
        const entry = tip.appendChild(element('div'));
        const name = entry.appendChild(element('span'));
        name.append(element('i', 'swatch ' + row.line.style), row.line.name);
        const text = row.y === null ? 'not finite' : format(row.y);
        entry.append(element('b', '', text + (row.x === closest ? '' : ` (${row.x.toLocaleString('en')})`)));
      }
      const middle = LEFT + (closest - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
      cross.setAttribute('transform', `translate(${middle} 0)`);
      cross.removeAttribute('hidden');
      tip.hidden = false;
      const outer = chart.getBoundingClientRect();
      const left = event.clientX - outer.left, flip = left > outer.width / 2;
      tip.style.left = Math.max(4, flip ? left - tip.offsetWidth - 14 : left + 14) + 'px';
      tip.style.top = Math.max(4, event.clientY - outer.top - tip.offsetHeight / 2) + 'px';
    });
  }
  const button = chart.querySelector('button');
  if (button) {
    button.addEventListener('click', () => {
      button.setAttribute('aria-pressed', chart.classList.toggle('logarithmic'));
      leave();
    });
  }
}

for (const button of document.querySelectorAll('.legend button')) {
  button.addEventListener('click', () => {
    const set = hidden[button.dataset.kind], value = button.dataset.value;
    if (set.has(value)) set.delete(value); else set.add(value);
    button.setAttribute('aria-pressed', !set.has(value));
    for (const line of document.querySelectorAll('g.line')) {
      line.toggleAttribute('hidden', !shown({run: line.dataset.run, split: line.dataset.split}));
    }
  });
}

for (const strip of document.querySelectorAll('.strip')) {
  const figure = strip.closest('figure');
  for (const button of strip.children) {
    button.addEventListener('click', () => {
      figure.querySelector(':scope > img').src = button.querySelector('img').src;
      figure.querySelector('.at').textContent = button.dataset.at;
      for (const other of strip.children) other.setAttribute('aria-pressed', other === button);
    });
  }
}
