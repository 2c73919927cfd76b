'use strict';
// Charts: axes of steps, epochs and time, zoom, smoothing and logarithms; values under the pointer; lines shown and
// hidden by the legend; earlier images. Without it the page shows the same charts as they were drawn into it.

const WIDTH = 480, HEIGHT = 284, LEFT = 56, RIGHT = 12, TOP = 10, BOTTOM = 42;  // as in chart.py
const hidden = {run: new Set(), split: new Set()};
const view = {axis: 'step', smoothing: 0, range: null};
const charts = [];

const shown = (line) => !hidden.run.has(String(line.run)) && !hidden.split.has(line.split);

const format = (v) => {
  const size = Math.abs(v);
  if (Number.isInteger(v) && size < 1e7) return v.toLocaleString('en');
  if (size >= 0.01 && size < 10) return v.toFixed(4);
  return String(Number(v.toPrecision(4)));
};

const tick = (v) => {  // as dl.show.words.tick
  const size = Math.abs(v);
  if (size && (size < 1e-4 || size >= 1e9)) return Number(v.toPrecision(3)).toExponential();
  for (const [least, unit, scale] of [[1e6, 'M', 1e6], [1e4, 'k', 1e3]]) {
    if (size >= least) return Number((v / scale).toPrecision(10)) + unit;
  }
  return size >= 1 ? Number(v.toPrecision(10)).toLocaleString('en', {maximumFractionDigits: 9}) : String(Number(v.toPrecision(6)));
};

const clock = (seconds) => {
  const s = Math.round(seconds), pad = (n) => String(n).padStart(2, '0');
  return s < 3600 ? `${Math.floor(s / 60)}:${pad(s % 60)}` : `${Math.floor(s / 3600)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)}`;
};

// How a place on the axis reads, and what it is called.
const AXES = {
  step: {name: 'step', at: (line, i) => line.x[i], text: (v) => tick(v), long: (v) => 'step ' + Math.round(v).toLocaleString('en')},
  epoch: {
    name: 'epoch', at: (line, i) => line.epoch ? line.x[i] / line.epoch : null,
    text: (v) => tick(v), long: (v) => 'epoch ' + Number(v.toPrecision(4)),
  },
  time: {name: 'time', at: (line, i) => line.s ? line.s[i] : null, text: clock, long: clock},
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

function drawn(tag, attributes, text) {
  const e = document.createElementNS(charts[0].svg.namespaceURI, tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  if (text !== undefined) e.textContent = text;
  return e;
}

// An exponential moving average, divided by the sum of its weights so that it begins at the first value.
function smoothed(ys, share) {
  let sum = 0, weight = 0;
  return ys.map((y) => {
    if (y === null) return null;
    sum = share * sum + (1 - share) * y;
    weight = share * weight + 1 - share;
    return sum / weight;
  });
}

function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9)) || 10 * power;
  const result = [];
  for (let i = Math.ceil(low / step - 1e-9); i <= Math.floor(high / step + 1e-9); i++) result.push(i * step);
  return result;
}

function timeTicks(low, high, count) {
  const rough = (high - low) / count;
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400].find((s) => s >= rough);
  if (!step || rough < 1) return ticks(low, high, count);
  const result = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) result.push(v);
  return result;
}

function logTicks(low, high) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9), result = [];
  const stride = Math.max(1, Math.ceil((last - first) / 6));
  for (let i = first - 1; i <= last; i++) {
    for (const m of last - first >= 3 ? [1] : [1, 2, 5]) {
      const v = m * 10 ** i;
      if (v >= low && v <= high && ((i - first) % stride === 0 || m > 1)) result.push(v);
    }
  }
  return result;
}

// The chart's lines in the coordinates of the present view: which points each has, and its frame.
function framed(chart) {
  const axis = AXES[view.axis];
  const lines = chart.lines.filter(shown).map((line) => {
    const xs = line.x.map((_, i) => axis.at(line, i));
    return {line, xs, raw: line.y, ys: view.smoothing ? smoothed(line.y, view.smoothing) : line.y};
  }).filter((line) => line.xs.every((x) => x !== null));
  const all = lines.flatMap((line) => line.xs);
  const [x0, x1] = view.range || [0, Math.max(...all, 0) || 1];
  const log = chart.log && lines.every((line) => line.ys.every((y) => y === null || y > 0));
  const ys = lines.flatMap(({xs, ys}) => ys.filter((y, i) => y !== null && xs[i] >= x0 && xs[i] <= x1));
  let low = ys.length ? Math.min(...ys) : 0, high = ys.length ? Math.max(...ys) : 1;
  if (log) {
    const margin = 0.05 * Math.log10(high / low) || 0.5;
    [low, high] = [low / 10 ** margin, high * 10 ** margin];
  } else {
    const margin = 0.05 * (high - low) || 0.05 * Math.abs(high) || 0.5;
    [low, high] = [low >= 0 ? Math.max(low - margin, 0) : low - margin, high + margin];
  }
  const scale = log ? Math.log10 : (v) => v;
  const x = (v) => LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT);
  const y = (v) => HEIGHT - BOTTOM - (scale(v) - scale(low)) / (scale(high) - scale(low)) * (HEIGHT - TOP - BOTTOM);
  return {lines, x0, x1, low, high, log, x, y};
}

function path(frame, xs, ys) {
  const pieces = [[]];
  ys.forEach((y, i) => {
    if (y === null) pieces.push([]); else pieces[pieces.length - 1].push(`${frame.x(xs[i]).toFixed(1)},${frame.y(y).toFixed(1)}`);
  });
  return pieces.filter((piece) => piece.length);
}

function draw(chart) {
  const frame = chart.frame = framed(chart), {svg} = chart, axis = AXES[view.axis];
  const right = WIDTH - RIGHT, bottom = HEIGHT - BOTTOM, parts = [];
  for (const v of frame.log ? logTicks(frame.low, frame.high) : ticks(frame.low, frame.high, 5)) {
    parts.push(drawn('path', {class: 'grid', d: `M${LEFT} ${frame.y(v)}H${right}`}));
    parts.push(drawn('text', {x: LEFT - 6, y: frame.y(v) + 3.5, 'text-anchor': 'end'}, tick(v)));
  }
  for (const v of (view.axis === 'time' ? timeTicks : ticks)(frame.x0, frame.x1, 5)) {
    const at = frame.x(v);
    parts.push(drawn('path', {class: 'tick', d: `M${at} ${bottom}v4`}));
    parts.push(drawn('text', {x: at, y: bottom + 18, 'text-anchor': at > right - 12 ? 'end' : 'middle'}, axis.text(v)));
  }
  parts.push(drawn('text', {x: (LEFT + right) / 2, y: HEIGHT - 5, 'text-anchor': 'middle'}, axis.name));
  parts.push(drawn('path', {class: 'axis', d: `M${LEFT} ${bottom}H${right}`}));
  const [x, y, width, height] = [LEFT - 3, TOP - 4, right - LEFT + 6, bottom - TOP + 8];  // lines end at these edges
  const plot = drawn('svg', {class: 'plot', x, y, width, height, viewBox: `${x} ${y} ${width} ${height}`});
  parts.push(plot);
  for (const {line, xs, raw, ys} of frame.lines) {
    const group = drawn('g', {class: `line ${line.drawn}`});
    if (view.smoothing) {
      for (const piece of path(frame, xs, frame.log ? raw.map((y) => y > 0 ? y : null) : raw)) {
        group.append(drawn('polyline', {class: 'faint', points: piece.join(' ')}));
      }
    } else if (line.low) {
      let piece = [];
      const band = () => {
        if (piece.length > 1) {
          const up = piece.map((i) => `${frame.x(xs[i])},${frame.y(line.high[i])}`);
          const down = piece.map((i) => `${frame.x(xs[i])},${frame.y(line.low[i])}`).reverse();
          group.append(drawn('polygon', {points: [...up, ...down].join(' ')}));
        }
        piece = [];
      };
      ys.forEach((y, i) => { if (y === null) band(); else piece.push(i); });
      band();
    }
    for (const piece of path(frame, xs, ys)) {
      group.append(drawn('polyline', {points: piece.join(' ')}));
      if (piece.length === 1 || ys.length <= 30) {
        for (const point of piece) {
          const [cx, cy] = point.split(',');
          group.append(drawn('circle', {cx, cy, r: 2.4}));
        }
      }
    }
    plot.append(group);
  }
  chart.selection = drawn('rect', {class: 'selection', y: TOP, height: bottom - TOP, hidden: ''});
  chart.cross = drawn('path', {class: 'cross', d: `M0 ${TOP}V${bottom}`, hidden: ''});
  svg.replaceChildren(...parts, chart.selection, chart.cross);
}

function redraw() {
  charts.forEach(draw);
  for (const button of document.querySelectorAll('[data-control="reset"]')) button.disabled = !view.range;
}

for (const figure of document.querySelectorAll('.chart[data-lines]')) {
  const chart = {
    figure, lines: JSON.parse(figure.dataset.lines), svg: figure.querySelector('svg'), log: false,
  };
  charts.push(chart);
  figure.classList.add('scripted');
  const tip = figure.appendChild(element('div', 'tip'));
  tip.hidden = true;
  const {svg} = chart;
  const place = (event) => {
    const box = svg.getBoundingClientRect(), at = (event.clientX - box.left) / box.width * WIDTH;
    const {x0, x1} = chart.frame;
    return x0 + (Math.min(Math.max(at, LEFT), WIDTH - RIGHT) - LEFT) / (WIDTH - LEFT - RIGHT) * (x1 - x0);
  };
  const leave = () => {
    tip.hidden = true;
    chart.cross.setAttribute('hidden', '');
  };
  let from = null;
  svg.addEventListener('pointerdown', (event) => {
    from = place(event);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener('pointerup', (event) => {
    const to = place(event), {x0, x1} = chart.frame, a = Math.min(from, to), b = Math.max(from, to);
    chart.selection.setAttribute('hidden', '');
    if (from !== null && b - a > 0.02 * (x1 - x0)) {
      view.range = [a, b];
      leave();
      redraw();
    }
    from = null;
  });
  svg.addEventListener('pointercancel', () => { from = null; chart.selection.setAttribute('hidden', ''); });
  svg.addEventListener('dblclick', () => { view.range = null; redraw(); });
  svg.addEventListener('pointerleave', leave);
  svg.addEventListener('pointermove', (event) => {
    const x = place(event), {frame} = chart;
    if (from !== null) {
      const [a, b] = [frame.x(Math.min(from, x)), frame.x(Math.max(from, x))];
      chart.selection.setAttribute('x', a);
      chart.selection.setAttribute('width', b - a);
      chart.selection.removeAttribute('hidden');
    }
    const rows = frame.lines.filter(({xs}) => xs.length).map(({line, xs, ys}) => {
      const i = nearest(xs, x);
      return {line, x: xs[i], y: ys[i]};
    });
    if (!rows.length) return leave();
    const closest = rows.reduce((a, b) => Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a).x, {long} = AXES[view.axis];
    tip.replaceChildren(element('small', '', long(closest)));
    for (const row of rows) {
      const entry = tip.appendChild(element('div'));
      const name = entry.appendChild(element('span'));
      name.append(element('i', 'swatch ' + row.line.style), row.line.name);
      const text = row.y === null ? 'not finite' : format(row.y);
      entry.append(element('b', '', text + (row.x === closest ? '' : ` (${long(row.x)})`)));
    }
    chart.cross.setAttribute('transform', `translate(${frame.x(closest)} 0)`);
    chart.cross.removeAttribute('hidden');
    tip.hidden = false;
    const outer = figure.getBoundingClientRect();
    const left = event.clientX - outer.left, flip = left > outer.width / 2;
    tip.style.left = Math.max(4, flip ? left - tip.offsetWidth - 14 : left + 14) + 'px';
    tip.style.top = Math.max(4, event.clientY - outer.top - tip.offsetHeight / 2) + 'px';
  });
  const button = figure.querySelector('button');
  if (button) {
    button.addEventListener('click', () => {
      chart.log = !chart.log;
      button.setAttribute('aria-pressed', chart.log);
      leave();
      draw(chart);
    });
  }
}

for (const control of document.querySelectorAll('.controls')) {
  control.hidden = false;
  const [axis, smoothing, reset] = ['axis', 'smoothing', 'reset'].map((name) => control.querySelector(`[data-control="${name}"]`));
  axis.addEventListener('change', () => { view.axis = axis.value; view.range = null; redraw(); });
  smoothing.addEventListener('input', () => {
    view.smoothing = Number(smoothing.value);
    control.querySelector('output').textContent = view.smoothing ? view.smoothing.toFixed(2) : 'none';
    redraw();
  });
  reset.addEventListener('click', () => { view.range = null; redraw(); });
}

for (const button of document.querySelectorAll('.legend button')) {
  button.addEventListener('click', () => {
    const set = hidden[button.dataset.kind], value = button.dataset.value;
    if (set.has(value)) set.delete(value); else set.add(value);
    button.setAttribute('aria-pressed', !set.has(value));
    redraw();
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

redraw();
