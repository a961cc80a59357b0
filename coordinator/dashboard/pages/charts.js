// Plots, on D3. Each draws into an element with data-keep, redraws when told, and can be read without a mouse.
import {digits, h} from './api.js';

const css = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Shares from 0 to 1, newest last.
export function sparkline(values, buckets = 60) {
  const x = i => (100 * (buckets - values.length + i)) / (buckets - 1);
  const line = values.map((v, i) => `${x(i).toFixed(1)},${(19 - 18 * v).toFixed(1)}`).join(' ');
  return h('svg', {class: 'sparkline', viewBox: '0 0 100 20', preserveAspectRatio: 'none', 'aria-hidden': 'true'},
    h('line', {class: 'base', x1: 0, y1: 19.5, x2: 100, y2: 19.5}),
    values.length > 1 && h('polyline', {points: line}));
}

// series: [{name, points: [[x, y]], style: 'a b', now: x?}], drawn in their order.
export class LineChart {
  constructor(label, xName) {
    this.label = label;
    this.xName = xName;
    this.at = null;
    this.root = h('div', {class: 'chart', tabindex: 0, role: 'group'});
    this.readout = h('p', {class: 'readout', 'aria-live': 'polite'});
    this.plot = h('div', {class: 'plot'});
    this.root.append(this.plot, this.readout);
    this.root.addEventListener('keydown', e => this.key(e));
    this.root.addEventListener('pointermove', e => this.point(e));
    this.root.addEventListener('pointerleave', () => this.move(null));
  }

  update(series, yName) {
    this.series = series.filter(s => s.points.length > 0);
    this.yName = yName;
    this.redraw();
  }

  redraw() {
    if (!this.series) return;
    const width = Math.max(280, this.plot.clientWidth || 600), height = width < 500 ? 220 : 280;
    const m = {top: 14, right: 14, bottom: 30, left: 46};
    const points = this.series.flatMap(s => s.points).filter(p => p[1] != null);
    this.root.setAttribute('aria-label', `${this.label}: ${this.yName} of ${this.series.length} ${this.series.length === 1 ? 'line' : 'lines'}. Left and right arrow keys read it ${this.xName} by ${this.xName}.`);
    const x = d3.scaleLinear(d3.extent([1, ...points.map(p => p[0])]), [m.left, width - m.right]);
    // A loss that has exploded must not flatten all others.
    const values = points.map(p => p[1]).sort(d3.ascending);
    const log = values[0] > 0 && d3.quantile(values, .9) / d3.median(values) > 10;
    const y = (log ? d3.scaleLog() : d3.scaleLinear()).domain(this.domain(values, log)).range([height - m.bottom, m.top]).clamp(true);
    if (!log) y.nice(5);
    Object.assign(this, {x, y, m, width, height});
    const decades = log ? y.ticks(5).filter(v => Math.abs(Math.log10(v) - Math.round(Math.log10(v))) < 1e-9) : [];
    const lines = decades.length > 1 ? decades : y.ticks(5);
    const svg = d3.select(this.plot).selectAll('svg').data([0]).join('svg')
      .attr('viewBox', `0 0 ${width} ${height}`).attr('aria-hidden', 'true');
    const group = (name, f) => svg.selectAll('g.' + name).data([0]).join('g').attr('class', name).call(f);
    group('grid', g => g.selectAll('line').data(lines).join('line')
      .attr('x1', m.left).attr('x2', width - m.right).attr('y1', y).attr('y2', y));
    group('axis-x', g => g.attr('transform', `translate(0,${height - m.bottom})`)
      .call(d3.axisBottom(x).tickValues(x.ticks(Math.min(8, width / 80)).filter(Number.isInteger)).tickFormat(d3.format('d')).tickSizeOuter(0)));
    group('axis-y', g => g.attr('transform', `translate(${m.left},0)`)
      .call(d3.axisLeft(y).ticks(5, log ? '~g' : undefined)).call(a => a.select('.domain').remove()));
    group('names', g => g.selectAll('text').data([[m.left, 9, 'start', this.yName + (log ? ', logarithmic' : '')], [width - m.right, height - 2, 'end', this.xName]])
      .join('text').attr('x', d => d[0]).attr('y', d => d[1]).attr('text-anchor', d => d[2]).text(d => d[3]));
    const line = d3.line().defined(p => p[1] != null).x(p => x(p[0])).y(p => y(p[1]));
    group('lines', g => g.selectAll('path').data(this.series, s => s.name).join('path').order()
      .attr('class', s => 'series ' + s.style).attr('d', s => line(s.points)));
    // A training that has one epoch has no line yet.
    group('dots', g => g.selectAll('circle').data(this.series.filter(s => s.points.length === 1 && s.points[0][1] != null), s => s.name).join('circle')
      .attr('class', s => 'dot ' + s.style).attr('r', 3).attr('cx', s => x(s.points[0][0])).attr('cy', s => y(s.points[0][1])));
    group('guide', g => g.selectAll('line').data(this.at == null ? [] : [this.at]).join('line')
      .attr('y1', m.top).attr('y2', height - m.bottom).attr('x1', x).attr('x2', x));
  }

  domain(values, log) {
    if (values.length === 0) return [0, 1];
    const high = values.length > 20 && !log ? Math.min(d3.max(values), d3.quantile(values, .95) * 1.6) : d3.max(values);
    const low = values[0];
    return low < high ? [low, high] : [low - .5, high + .5];
  }

  point(event) {
    if (!this.x || this.series.length === 0) return;
    const box = this.plot.getBoundingClientRect();
    this.move(Math.round(this.x.invert((event.clientX - box.left) * this.width / box.width)));
  }

  key(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1, PageUp: 10, PageDown: -10}[event.key];
    if (!step || !this.x) return;
    event.preventDefault();
    const [low, high] = this.x.domain();
    this.move(Math.max(low, Math.min(high, (this.at ?? high) + (this.at == null ? 0 : step))));
  }

  move(at) {
    if (!this.x) return;
    if (at != null && (at < this.x.domain()[0] || at > this.x.domain()[1])) at = null;
    if (at === this.at) return;
    this.at = at;
    const read = this.series.map(s => [s.name, s.points.find(p => p[0] === at)]).filter(([, p]) => p && p[1] != null);
    this.readout.textContent = at == null ? '' :
      `${this.xName} ${at}: ` + (read.slice(0, 6).map(([name, p]) => `${name} ${digits(p[1])}`).join(', ') || 'nothing') +
      (read.length > 6 ? ` and ${read.length - 6} more` : '');
    this.redraw();
  }
}

// Lines of many trials over one axis a setting and one for the score. Brushing an axis keeps what lies within.
export class ParallelPlot {
  constructor(changed) {
    this.changed = changed;
    this.ranges = new Map();  // Axis -> [pixel, pixel].
    this.root = h('div', {class: 'parallel scroll'});
    this.canvas = h('canvas', {'aria-hidden': 'true'});
    this.svg = h('svg', {role: 'img'});
    this.root.append(h('div', {class: 'stack'}, this.canvas, this.svg));
  }

  update(data) {
    const same = this.data && JSON.stringify(this.data.axes) === JSON.stringify(data.axes);
    this.data = data;
    if (!same) this.ranges.clear();
    this.redraw();
  }

  clear() {
    this.ranges.clear();
    this.redraw();
  }

  redraw() {
    if (!this.data) return;
    const {data} = this;
    const scores = data.scores.filter(s => s != null).sort(d3.ascending);
    const axes = data.axes.map((axis, i) => ({...axis, column: data.columns[i]}));
    if (scores.length > 0) {
      const high = d3.max(scores), log = scores[0] > 0 && d3.quantile(scores, .9) / scores[0] > 20;
      axes.push({key: 'score', low: scores[0], high: log || scores.length < 20 ? high : Math.min(high, d3.quantile(scores, .95) * 1.6),
                 log, column: data.scores, better: data.higher_is_better ? 'up' : 'down'});
    }
    const width = Math.max((this.root.clientWidth || 800) - 2, axes.length * 104), height = 300;
    const m = {top: 34, right: 56, bottom: 14, left: 64};
    const x = d3.scalePoint(axes.map((_, i) => i), [m.left, width - m.right]);
    for (const axis of axes) axis.y = this.scale(axis, height, m);
    Object.assign(this, {axes, x, width, height, m});
    this.svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.svg.setAttribute('aria-label', `Parallel coordinates of ${data.trials.length} of ${data.total} trials over ${axes.map(a => a.key).join(', ')}. The table has the same numbers, and the form above it the same filters.`);
    for (const part of [this.svg, this.canvas]) { part.style.width = width + 'px'; part.style.height = height + 'px'; }
    this.root.firstChild.style.height = height + 'px';
    this.drawAxes();
    this.drawLines();
  }

  scale(axis, height, m) {
    const range = axis.better === 'down' ? [m.top, height - m.bottom] : [height - m.bottom, m.top];
    if (axis.values) return d3.scalePoint(axis.values.map((_, i) => i), range).padding(.15);
    const domain = axis.low === axis.high ? [axis.low - 1, axis.high + 1] : [axis.low, axis.high];
    return (axis.log && axis.low < axis.high ? d3.scaleLog() : d3.scaleLinear()).domain(domain).range(range).clamp(true);
  }

  drawAxes() {
    const plot = this;
    const brush = d3.brushY().extent([[-12, this.m.top], [12, this.height - this.m.bottom]])
      .on('brush end', function(axis) { plot.brushed(axis, d3.event.selection, d3.event.type === 'end' && d3.event.sourceEvent); });
    d3.select(this.svg).selectAll('g.axis').data(this.axes, a => a.key)
      .join(enter => {
        const g = enter.append('g').attr('class', 'axis');
        g.append('g').attr('class', 'scale');
        g.append('text').attr('class', 'key').attr('text-anchor', 'middle').attr('y', 13);
        g.append('g').attr('class', 'brush').call(brush);
        return g;
      })
      .attr('transform', (a, i) => `translate(${this.x(i)},0)`)
      .each(function(axis) {
        const scale = axis.values ? d3.axisLeft(axis.y).tickFormat(i => axis.values[i])
          : d3.axisLeft(axis.y).ticks(5, axis.log ? '~g' : undefined);
        d3.select(this).select('.scale').call(scale);
        d3.select(this).select('.key').text(axis.key.length > 16 ? axis.key.slice(0, 15) + '…' : axis.key);
        if (!plot.ranges.has(axis.key)) {
          const g = d3.select(this).select('.brush');
          if (d3.brushSelection(g.node())) g.call(brush.move, null);
        }
      });
  }

  brushed(axis, selection, byHand) {
    if (selection) this.ranges.set(axis.key, selection);
    else this.ranges.delete(axis.key);
    this.drawLines();
    if (byHand) this.changed(this.clauses());
  }

  // As the server's `where` has it.
  clauses() {
    return this.axes.filter(a => this.ranges.has(a.key)).map(axis => {
      const range = this.ranges.get(axis.key);
      if (axis.values) return `${axis.key}=` + axis.values.filter((_, i) => this.within(axis, i)).join('|');
      let [low, high] = range.map(axis.y.invert).sort(d3.ascending);
      // What lies beyond the end of an axis is drawn on its end.
      const [first, last] = axis.y.domain();
      if (axis.key === 'score' && high >= last * (1 - 1e-9)) high = 1e308;
      if (axis.key === 'score' && low <= first) low = -1e308;
      return `${axis.key}:${low.toPrecision(6)}:${high.toPrecision(6)}`;
    });
  }

  within(axis, value) {
    const range = this.ranges.get(axis.key);
    if (!range) return true;
    if (value == null) return false;
    const y = axis.y(value);
    return y >= range[0] && y <= range[1];
  }

  drawLines() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = this.width * ratio;
    this.canvas.height = this.height * ratio;
    const g = this.canvas.getContext('2d');
    g.scale(ratio, ratio);
    const {scores, trials, higher_is_better: up} = this.data;
    const sorted = scores.filter(s => s != null).sort(up ? d3.descending : d3.ascending);
    const color = d3.scaleLinear([0, .5, 1], [css('--accent'), css('--second'), css('--line')]).clamp(true);
    const soft = css('--line');
    const many = Math.max(.12, Math.min(.8, 60 / trials.length));
    const paint = (i, stroke, alpha) => {
      g.strokeStyle = stroke;
      g.globalAlpha = alpha;
      g.beginPath();
      this.axes.forEach((axis, k) => {
        const value = axis.column[i];
        if (value == null) return;
        const px = this.x(k), py = axis.y(value);
        if (k === 0) g.moveTo(px, py); else g.lineTo(px, py);
      });
      g.stroke();
    };
    const kept = trials.map((_, i) => this.axes.every(axis => this.within(axis, axis.column[i])));
    trials.forEach((_, i) => { if (!kept[i]) paint(i, soft, many * .6); });
    const bisect = d3.bisector((a, b) => (up ? b - a : a - b)).left;
    trials.forEach((_, i) => {
      if (!kept[i]) return;
      const rank = scores[i] == null ? 1 : bisect(sorted, scores[i]) / Math.max(1, sorted.length - 1);
      g.lineWidth = rank < .02 ? 1.8 : 1;
      paint(i, color(rank), rank < .02 ? 1 : Math.min(1, many * (rank < .25 ? 2 : 1)));
    });
  }
}
