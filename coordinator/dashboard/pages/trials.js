// The trials of a sweep: leaderboard, parallel coordinates, which settings matter.
import {chip, digits, get, h, isOpen, number, pager, percent, say} from './api.js';
import {ParallelPlot} from './charts.js';

const kRows = 25;
const kStates = ['chosen', 'trained', 'training', 'dropped', 'failed'];

export class Trials {
  sort = 'score';
  desc = false;
  state = '';
  offset = 0;
  brushed = [];  // Clauses of the plot,
  typed = [];    // and of the form.
  told = true;   // What was asked of the table last has been said.
  picked = new Set();

  constructor(id) {
    this.path = `studies/${encodeURIComponent(id)}/`;
    this.plot = new ParallelPlot(clauses => { this.brushed = clauses; this.offset = 0; this.told = false; dispatchEvent(new Event('look')); });
  }

  where() { return [...this.brushed, ...this.typed].join(';'); }

  async load() {
    const told = this.told;
    this.told = true;
    const query = new URLSearchParams({sort: this.sort, desc: this.desc ? '1' : '0', offset: this.offset, limit: kRows});
    if (this.state) query.set('state', this.state);
    if (this.where()) query.set('where', this.where());
    this.wrong = '';
    const page = get(this.path + 'trials?' + query).catch(error => {
      // A filter that was typed may be nonsense: say so and go on without it.
      if (error instanceof TypeError || this.typed.length === 0) throw error;
      this.typed.pop();
      this.wrong = error.message;
      return this.page;
    });
    [this.page, this.lines, this.importance] =
      await Promise.all([page, get(this.path + 'parallel'), get(this.path + 'importance')]);
    if (!told) this.tell();
  }

  // The table changes far from the button that was pressed, or not at all.
  tell() {
    const {matching, trials} = this.page;
    say(`Sorted by ${this.sort}, ${this.rising() ? 'ascending' : 'descending'}. ` +
      (trials.length > 0 ? `Trials ${number(this.offset + 1)} to ${number(this.offset + trials.length)} of ${number(matching)}.` : 'No trial is like that.'));
  }

  rising() { return this.sort === 'score' ? this.desc === this.page.higher_is_better : !this.desc; }

  act(what, data) {
    if (['page', 'sort', 'state', 'filter', 'unfilter', 'unbrush'].includes(what)) this.told = false;
    if (what === 'page') this.offset = +data.to;
    if (what === 'sort') {
      this.desc = this.sort === data.key && !this.desc;
      this.sort = data.key;
      this.offset = 0;
    }
    if (what === 'state') { this.state = data.value; this.offset = 0; }
    if (what === 'pick') data.checked ? this.picked.add(+data.trial) : this.picked.delete(+data.trial);
    if (what === 'filter') {
      const from = data.from.trim(), to = data.to.trim();
      if (!from && !to) return;
      const numeric = (from === '' || !isNaN(from)) && (to === '' || !isNaN(to));
      this.typed.push(numeric ? `${data.key}:${from || -1e308}:${to || 1e308}` : `${data.key}=${from || to}`);
      this.offset = 0;
    }
    if (what === 'unfilter') { this.typed.splice(+data.index, 1); this.offset = 0; }
    if (what === 'unbrush') { this.brushed = []; this.plot.clear(); this.offset = 0; }
  }

  heading(key, text, numeric) {
    const on = this.sort === key, up = this.rising();
    return h('th', {scope: 'col', class: numeric ? 'n' : null, 'aria-sort': on ? (up ? 'ascending' : 'descending') : null},
      h('button', {type: 'button', class: 'sort' + (on ? ' on' : ''), 'data-act': 'sort', 'data-key': key}, text, on && h('span', {'aria-hidden': 'true'}, up ? ' ↑' : ' ↓')));
  }

  table(study) {
    const {page} = this, metric = study.metric;
    const row = t => h('tr', {class: t.state === 'chosen' ? 'ours' : null},
      h('td', {class: 'pick'}, h('input', {type: 'checkbox', 'data-pick': 'pick', 'data-trial': t.trial, id: 'pick-' + t.trial,
        'aria-label': `Show the curves of trial ${t.trial}`, checked: this.picked.has(t.trial)})),
      h('th', {scope: 'row', class: 'n'}, t.trial),
      h('td', {}, chip(t.state === 'training' && !isOpen(study) ? 'unfinished' : t.state)),
      h('td', {class: 'n' + (t.so_far ? ' so-far' : '')}, digits(t.score), t.so_far && [' ', h('small', {}, 'so far')], t.deviation ? h('small', {}, '± ' + digits(t.deviation, 3)) : null),
      h('td', {class: 'n'}, number(t.epochs)),
      t.settings.map(s => h('td', {class: 'n'}, s)));
    return h('div', {class: 'scroll'}, h('table', {class: 'trials'},
      h('caption', {class: 'unseen'}, `Trials, ${number(page.matching)} of ${number(page.total)}`),
      h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, h('span', {class: 'unseen'}, 'Curves')), this.heading('trial', 'Trial', true), this.heading('state', 'State'),
        this.heading('score', metric, true), this.heading('epochs', 'Epochs', true), page.keys.map(k => this.heading(k, k, true)))),
      h('tbody', {}, page.trials.length ? page.trials.map(row)
        : h('tr', {}, h('td', {colspan: 5 + page.keys.length, class: 'none'}, 'No trial is like that.')))));
  }

  filters() {
    const keys = [...this.page.keys, 'score'];
    return h('div', {class: 'filters'},
      h('label', {}, 'State ', h('select', {'data-pick': 'state', id: 'state'}, h('option', {value: ''}, 'all'),
        kStates.map(s => h('option', {value: s, selected: s === this.state}, s)))),
      h('form', {'data-form': 'filter', id: 'filter'},
        h('label', {}, 'Only where ', h('select', {name: 'key', id: 'filter-key'}, keys.map(k => h('option', {value: k}, k)))),
        h('label', {}, ' from ', h('input', {name: 'from', size: 7, id: 'filter-from'})),
        h('label', {}, ' to ', h('input', {name: 'to', size: 7, id: 'filter-to'})),
        h('button', {type: 'submit'}, 'Filter')),
      this.typed.map((clause, i) => h('button', {type: 'button', class: 'tag', 'data-act': 'unfilter', 'data-index': i, 'aria-label': 'Remove the filter ' + clause},
        clause.replace(/:-?1e\+?308/g, ':…'), ' ×')),
      this.brushed.length > 0 && h('button', {type: 'button', class: 'tag', 'data-act': 'unbrush'}, `${this.brushed.length} brushed ${this.brushed.length === 1 ? 'axis' : 'axes'} ×`),
      this.wrong && h('p', {class: 'wrong', role: 'alert'}, this.wrong));
  }

  importanceTable(metric) {
    const {importance} = this;
    if (importance.trials < 10) return h('p', {class: 'note'}, 'Too few trials can be compared yet.');
    const most = Math.max(.05, ...importance.keys.map(k => k.share));
    return [h('table', {class: 'importance'},
      h('caption', {class: 'unseen'}, 'How much of the score each setting explains'),
      h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'Setting'), h('th', {scope: 'col'}, 'Explains'), h('th', {scope: 'col', class: 'n'}, 'Correlation'))),
      h('tbody', {}, importance.keys.map(k => h('tr', {}, h('th', {scope: 'row'}, k.key),
        h('td', {class: 'share'}, h('svg', {viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true'},
          h('rect', {class: 'done', width: (100 * k.share / most).toFixed(1), height: 6})), h('span', {}, percent(k.share))),
        h('td', {class: 'n'}, k.correlation == null ? '–' : (k.correlation > 0 ? '+' : '−') + Math.abs(k.correlation).toFixed(2)))))),
      h('p', {class: 'note'}, `How much of the order of trials by ${metric} the setting alone explains, beyond chance; rank correlation of numbers. ${number(importance.trials)} trials`,
        importance.epochs > 0 ? `, each at its best up to epoch ${importance.epochs}, where nobody had been dropped.` : '.')];
  }

  draw(study) {
    this.lines && requestAnimationFrame(() => this.plot.root.isConnected && this.plot.update(this.lines));
    const shown = this.lines.trials.length;
    return [
      h('section', {'aria-labelledby': 'lines'}, h('h2', {id: 'lines'}, 'Settings and score'),
        h('div', {'data-keep': true, 'data-slot': 'plot', id: 'parallel'}),
        h('p', {class: 'note'}, shown < this.lines.total && `${number(shown)} of ${number(this.lines.total)} lines: the better ones, and some of all others. `,
          'Better scores are up, and drawn in ', h('span', {class: 'key-a'}, 'green'), '. Drag along an axis to keep what lies within; the table follows.')),
      h('section', {'aria-labelledby': 'importance'}, h('h2', {id: 'importance'}, 'Which settings matter'), this.importanceTable(study.metric)),
      h('section', {'aria-labelledby': 'board'}, h('h2', {id: 'board'}, 'Trials'), this.filters(), this.table(study),
        pager('page', this.offset, kRows, this.page.matching),
        h('p', {class: 'note'}, h('a', {href: '/api/' + this.path + 'trials.csv', download: true}, 'CSV'), ' or ',
          h('a', {href: '/api/' + this.path + 'trials.jsonl', download: true}, 'JSON lines'), ' of all trials. Checked trials are drawn above.'))];
  }
}
