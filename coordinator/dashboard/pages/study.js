// One study: where it is, how it learns, its trials, what failed, what it explains.
import {chip, digits, draw, get, h, isOpen, number, say, when} from './api.js';
import {LineChart} from './charts.js';
import {bar, happenings} from './cluster.js';
import {Explanations} from './explanations.js';
import {Trials} from './trials.js';

export class StudyPage {
  name = 'studies';
  measure = 'loss';

  constructor(id) {
    this.id = id;
    this.title = id;
    this.path = 'studies/' + encodeURIComponent(id);
    this.chart = new LineChart('Curves', 'epoch');
    this.trials = new Trials(id);
    this.explanations = new Explanations(id);
  }

  async load() {
    const picked = [...this.trials.picked].join(',');
    const [study, curves, failures] = await Promise.all([get(this.path),
      get(this.path + '/curves' + (picked ? '?trials=' + picked : '')), get(this.path + '/failures')]);
    if (study.sweep) await this.trials.load();
    if (study.explanations.images > 0) await this.explanations.load();
    if (this.study && this.study.phase !== study.phase) say(`The study is ${study.phase}.`);
    Object.assign(this, {study, curves, failures});
  }

  act(what, data) {
    if (what === 'measure') this.measure = data.to;
    this.trials.act(what, data);
    this.explanations.act(what, data);
  }

  resized() {
    this.chart.redraw();
    this.trials.plot.redraw();
  }

  // One training: both lines. A sweep: validation alone, the best on top and strong.
  series() {
    const [training, validation] = this.measure === 'loss' ? [1, 2] : [3, 4];
    const points = (curve, k) => curve.points.map(p => [p[0], p[k]]);
    if (!this.study.sweep) {
      return this.curves.curves.flatMap(c => [{name: 'training', points: points(c, training), style: 'second dashed'},
                                             {name: 'validation', points: points(c, validation), style: 'first'}]);
    }
    const picked = this.trials.picked.size > 0;
    return this.curves.curves.map((c, i) => ({name: 'trial ' + c.trial, points: points(c, validation),
      style: picked ? 'c' + (i % 6) : c.state === 'chosen' ? 'first strong' : c.state === 'training' ? 'second' : 'faint'})).reverse();
  }

  curvesSection(study) {
    const known = this.curves.curves.some(c => c.points.length > 0);
    if (study.given_model || (!known && !isOpen(study))) return null;
    requestAnimationFrame(() => {
      const slot = document.getElementById('curves-slot');
      if (!slot) return;
      if (this.chart.root.parentNode !== slot) slot.replaceChildren(this.chart.root);
      this.chart.update(this.series(), (study.sweep ? 'validation ' : '') + this.measure);
    });
    const choice = (to, text) => h('button', {type: 'button', 'data-act': 'measure', 'data-to': to, 'aria-pressed': String(this.measure === to)}, text);
    const now = study.running.slice(0, 3).map(r => (study.sweep ? `trial ${r.trial} ` : '') + `at epoch ${r.epoch.toFixed(1)} on ${r.workers} worker${r.workers === 1 ? '' : 's'}`);
    return h('section', {'aria-labelledby': 'curves'}, h('h2', {id: 'curves'}, 'Learning curves'),
      h('div', {class: 'filters'}, h('div', {class: 'choice', role: 'group', 'aria-label': 'What is drawn'}, choice('loss', 'Loss'), choice('accuracy', 'Accuracy')),
        study.sweep ? h('span', {class: 'keys'}, this.trials.picked.size > 0 ? 'the checked trials'
            : [h('i', {class: 'first'}), 'taken ', h('i', {class: 'second'}), 'in training ', h('i', {class: 'faint'}), 'the best others'])
          : h('span', {class: 'keys'}, h('i', {class: 'second dashed'}), 'training ', h('i', {class: 'first'}), 'validation'),
        now.length > 0 && h('span', {class: 'soft'}, 'now: ' + now.join('; ') + (study.running.length > 3 ? ` and ${study.running.length - 3} more` : ''))),
      h('div', {'data-keep': true, id: 'curves-slot'}),
      !known && h('p', {class: 'note'}, 'Epochs appear as their training states are stored, about every half minute.'),
      known && this.numbers());
  }

  // The same as a table, for who does not see lines.
  numbers() {
    const curve = this.curves.curves.find(c => c.points.length > 0);
    return h('details', {}, h('summary', {}, this.study.sweep ? `Numbers of trial ${curve.trial}` : 'Numbers'),
      h('div', {class: 'scroll low', tabindex: 0}, h('table', {},
        h('thead', {}, h('tr', {}, ['Epoch', 'Training loss', 'Validation loss', 'Training accuracy', 'Validation accuracy'].map(t => h('th', {scope: 'col', class: 'n'}, t)))),
        h('tbody', {}, curve.points.slice().reverse().map(p => h('tr', {}, p.map((v, k) => h('td', {class: 'n'}, k === 0 ? v : digits(v)))))))));
  }

  failuresSection() {
    const {failures, total} = this.failures;
    if (total === 0) return null;
    return h('section', {'aria-labelledby': 'failed'}, h('h2', {id: 'failed'}, `Failed tasks (${number(total)})`),
      failures.map(f => h('details', {class: 'failure', id: 'task-' + f.task}, h('summary', {}, h('b', {}, f.what), ' ', h('span', {}, `on ${f.worker || 'no worker'}`)),
        h('pre', {tabindex: 0}, f.cause),
        f.log && f.log.length > 0 && [h('h3', {}, 'What happened to it'), happenings(f.log)],
        h('p', {class: 'note'}, 'Task ', h('code', {}, f.task)))),
      total > failures.length && h('p', {class: 'note'}, `${number(total - failures.length)} more are not listed.`),
      h('p', {class: 'note'}, h('code', {}, `dermis retry ${this.id}`), ' clears them and tries again.'));
  }

  draw(main) {
    const {study} = this;
    const stages = study.stages.map(s => h('div', {class: 'stage'},
      h('p', {}, h('b', {}, s.stage), h('span', {}, `${number(s.done)} / ${s.total ? number(s.total) : '?'} ${s.unit}`)),
      bar(s.done, s.total, s.stage),
      h('small', {}, s.reused > 0 ? `${number(s.computed)} tasks computed, ${number(s.reused)} found` : `${number(s.computed)} tasks computed`)));
    const trials = study.trials;
    draw(main,
      h('header', {class: 'head'}, h('h1', {}, study.id, ' ', chip(study.phase)),
        h('p', {class: 'soft'}, 'submitted ', when(study.submitted_ms), study.user && ` by ${study.user}`, ` · images ${study.images}`,
          study.phase === 'running' && ` · ${number(study.workers)} worker${study.workers === 1 ? '' : 's'} on it`,
          trials && ` · ${number(trials.total)} trials: ` + [[trials.training, isOpen(study) ? 'in training' : 'unfinished'], [trials.dropped, 'dropped'],
            [trials.trained, 'trained'], [trials.failed, 'failed']].filter(([n]) => n > 0).map(([n, what]) => `${number(n)} ${what}`).join(', '))),
      study.problems.length > 0 && h('ul', {class: 'problems', 'aria-label': 'Problems'}, study.problems.slice(0, 5).map(p => h('li', {}, p.split('\n')[0])),
        study.problems.length > 5 && h('li', {}, `and ${study.problems.length - 5} more, below`)),
      h('section', {'aria-label': 'Stages', class: 'stages'}, stages),
      this.curvesSection(study),
      study.sweep && this.trials.draw(study),
      this.failuresSection(),
      study.explanations.images > 0 && this.explanations.draw(study),
      h('section', {}, h('details', {}, h('summary', {}, 'The study as it runs'), h('pre', {tabindex: 0}, study.spec)),
        h('p', {class: 'note'}, 'Image set ', h('code', {}, study.image_set.slice(0, 16)), study.numerics_class && [', numerics class ', h('code', {}, study.numerics_class)], '.')));
    const slot = document.getElementById('parallel');
    if (slot && this.trials.plot.root.parentNode !== slot) slot.replaceChildren(this.trials.plot.root);
  }
}
