// The lists: studies, workers, what has happened.
import {chip, digits, draw, get, h, isOpen, number, pager, percent, when} from './api.js';
import {sparkline} from './charts.js';

const kStudies = 50;

// What a study is at: the first stage that is not over, or the last.
export function stageNow(study) {
  return study.stages.find(s => s.total === 0 || s.done < s.total) || study.stages[study.stages.length - 1];
}

export function bar(done, total, label) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  return h('svg', {class: 'bar-line', viewBox: '0 0 100 6', preserveAspectRatio: 'none', role: 'img',
                   'aria-label': `${label}: ${number(done)} of ${total > 0 ? number(total) : 'an unknown number'}`},
    h('rect', {class: 'all', width: 100, height: 6}), h('rect', {class: 'done', width: (share * 100).toFixed(2), height: 6}));
}

function whatIsBest(study) {
  if (!study.last_epoch || study.last_epoch.validation_accuracy == null) return '–';
  return `${(study.last_epoch.validation_accuracy * 100).toFixed(1)} %`;
}

export class StudiesPage {
  name = 'studies';
  title = 'Studies';
  offset = 0;
  async load() { this.data = await get(`studies?offset=${this.offset}&limit=${kStudies}`); }
  act(what, {to}) { if (what === 'studies') this.offset = +to; }

  draw(main) {
    const {studies, total} = this.data;
    if (total === 0) {
      draw(main, h('h1', {}, 'Studies'), h('p', {class: 'empty'}, 'No study yet. ', h('code', {}, 'dermis run STUDY.yaml --images SET'), ' submits one.'));
      return;
    }
    const rows = studies.map(study => {
      const stage = stageNow(study);
      return h('tr', {},
        h('th', {scope: 'row'}, h('a', {href: '#/study/' + encodeURIComponent(study.id)}, study.id)),
        h('td', {}, chip(study.phase), study.failures > 0 && isOpen(study) && [' ', chip(`${number(study.failures)} failed`, 'failed')]),
        h('td', {class: 'progress'}, bar(stage.done, stage.total, stage.stage),
          h('small', {}, study.phase === 'done' ? 'all stages' : `${stage.stage} ${number(stage.done)} / ${stage.total ? number(stage.total) : '?'}`)),
        h('td', {class: 'n wide'}, study.trials ? `${number(study.trials.total - study.trials.training)} / ${number(study.trials.total)}` : '–'),
        h('td', {class: 'n wide'}, whatIsBest(study)),
        h('td', {class: 'n wide'}, study.phase === 'running' ? number(study.workers) : '–'),
        h('td', {class: 'n'}, when(study.submitted_ms)));
    });
    draw(main, h('h1', {}, 'Studies'),
      h('div', {class: 'scroll'}, h('table', {},
        h('caption', {class: 'unseen'}, 'Studies, the newest first'),
        h('thead', {}, h('tr', {}, ['Study', 'Phase', 'Progress'].map(t => h('th', {scope: 'col'}, t)),
          h('th', {scope: 'col', class: 'n wide'}, 'Trials over'), h('th', {scope: 'col', class: 'n wide'}, 'Validation accuracy'),
          h('th', {scope: 'col', class: 'n wide'}, 'Workers'), h('th', {scope: 'col', class: 'n'}, 'Submitted'))),
        h('tbody', {}, rows))),
      pager('studies', this.offset, kStudies, total));
  }
}

export class WorkersPage {
  name = 'workers';
  title = 'Workers';
  async load() {}

  draw(main, cluster) {
    const classes = new Set(cluster.workers.map(w => w.numerics_class));
    const rows = cluster.workers.map(w => h('tr', {},
      h('th', {scope: 'row'}, w.worker, h('small', {}, w.host),
        w.joined && h('small', {class: 'wide'}, `token ${w.joined.token}, certificate of `, when(w.joined.ms))),
      h('td', {}, chip(w.state)),
      h('td', {class: 'spark'}, h('span', {}, percent(w.busy_now)), sparkline(w.busy)),
      h('td', {class: 'doing'}, w.doing || 'nothing'),
      h('td', {class: 'n wide'}, number(w.threads)),
      h('td', {class: 'n'}, number(w.completed)),
      classes.size > 1 && h('td', {class: 'wide'}, h('code', {}, w.numerics_class))));
    draw(main, h('h1', {}, 'Workers'),
      cluster.workers.length === 0 ? h('p', {class: 'empty'}, 'No worker is here. ', h('code', {}, 'dermis cluster start'), ' starts some.')
      : h('div', {class: 'scroll'}, h('table', {},
        h('caption', {class: 'unseen'}, 'Workers and what they do'),
        h('thead', {}, h('tr', {}, h('th', {scope: 'col'}, 'Worker'), h('th', {scope: 'col'}, 'State'),
          h('th', {scope: 'col'}, 'Had work, last minute'), h('th', {scope: 'col'}, 'Runs'),
          h('th', {scope: 'col', class: 'n wide'}, 'Threads'), h('th', {scope: 'col', class: 'n'}, 'Tasks'),
          classes.size > 1 && h('th', {scope: 'col', class: 'wide'}, 'Numerics class'))),
        h('tbody', {}, rows))),
      h('p', {class: 'note'}, classes.size === 1 && ['All give the same bits: numerics class ', h('code', {}, [...classes][0]), '. '],
        classes.size > 1 && 'A study stays with the workers of one numerics class. ',
        `Coordinator ${cluster.version}, start ${cluster.start}; ${number(cluster.completions)} results stored and ${number(cluster.losses)} attempts lost since then.`));
  }
}

const kGood = {submitted: 1, started: 1, retried: 1, pinned: 1};

// A cause, and behind it the end of a log.
function withLog(e) {
  const [first, ...rest] = e.text.split('\n');
  return rest.length === 0 ? e.text : [first, h('details', {}, h('summary', {}, `${rest.length} lines`), h('pre', {tabindex: 0}, rest.join('\n')))];
}

export function happenings(list) {
  return h('ol', {class: 'events'}, list.map(e => h('li', {},
    h('span', {class: 'at'}, when(e.ms)), chip(e.kind, kGood[e.kind] ? 'plain' : 'failed'),
    h('span', {class: 'what'},
      (e.studies || []).map(id => [h('a', {href: '#/study/' + encodeURIComponent(id)}, id), ' ']),
      e.worker && h('b', {}, e.worker + ' '), e.task && h('code', {}, e.task), e.task && ' ', withLog(e)))));
}

export class EventsPage {
  name = 'events';
  title = 'Events';
  async load() { this.data = await get('history?limit=200'); }
  draw(main) {
    draw(main, h('h1', {}, 'Events'),
      this.data.happenings.length === 0 ? h('p', {class: 'empty'}, 'Nothing has happened yet.') : happenings(this.data.happenings));
  }
}
