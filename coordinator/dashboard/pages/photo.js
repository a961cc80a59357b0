// Explain an image: a picture goes to the coordinator, its answer comes piece by piece. Nothing of it is kept, here or there.
import {digits, draw, get, h, percent, say} from './api.js';
import {heat, loadImage} from './explanations.js';

const kSide = 224, kPoll = 250, kMost = 20 << 20;
const kNames = {lime: 'LIME', shapley: 'Shapley values', grad_cam: 'Grad-CAM'};

// A user's token lives as long as this tab, and goes into a header: never a cookie.
let count = 0;  // Of questions.
let user = sessionStorage.getItem('dermis-user') || '';
export function keepUser(token) {
  user = token;
  if (token) sessionStorage.setItem('dermis-user', token);
  else sessionStorage.removeItem('dermis-user');
}

async function call(method, path, body, more = {}) {
  const response = await fetch('/api/' + path, {method, body, headers: {Authorization: 'Bearer ' + user}, credentials: 'same-origin', ...more});
  if (response.status === 401) keepUser('');
  if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error || response.statusText);
  return response;
}

// Until the next look. Browsers let a hidden tab's timers wait a minute: who comes back sees the news at once.
const pause = () => new Promise(resolve => {
  const end = () => { clearTimeout(timer); document.removeEventListener('visibilitychange', end); resolve(); };
  const timer = setTimeout(end, kPoll);
  document.addEventListener('visibilitychange', end);
});

// "upper left": where the strongest evidence lies, in words.
function placeOf(map) {
  const cells = map.cells && atob(map.cells);
  const of = i => (cells ? cells.charCodeAt(2 * i) | (cells.charCodeAt(2 * i + 1) << 8) : i);
  const best = map.values.reduce((at, v, i) => (v > (map.values[at] ?? -Infinity) ? i : at), 0);
  if (!(map.values[best] > 0)) return '';
  let x = 0, y = 0, n = 0;
  for (let i = 0; i < map.width * map.height; ++i) {
    if (of(i) !== best) continue;
    x += i % map.width + .5; y += Math.floor(i / map.width) + .5; ++n;
  }
  const third = (share, words) => words[Math.min(2, Math.floor(3 * share))];
  const row = third(y / n / map.height, ['upper', 'middle', 'lower']), column = third(x / n / map.width, ['left', 'centre', 'right']);
  return row === 'middle' && column === 'centre' ? 'the middle' : `the ${row} ${column}`;
}

export class PhotoPage {
  name = 'explain';
  title = 'Explain an image';
  studies = null;
  answer = null;  // Of the last question.
  trouble = '';
  overlaid = true;
  constructor(study) {
    this.study = study;
    this.away = () => this.left();
    addEventListener('pagehide', this.away);
  }

  left() {
    this.gone = true;
    removeEventListener('pagehide', this.away);
    this.leave();
  }
  leave() {
    if (this.question) call('DELETE', 'questions/' + this.question, undefined, {keepalive: true}).catch(() => {});
    this.question = '';
  }

  // The newest 200; and the one that the address names, however old it is. One that is not there is still asked for: the coordinator says so.
  async load() {
    const {studies} = await get('studies?limit=200');
    if (!this.study && studies.length > 0) this.study = studies[0].id;
    this.studies = !this.study || studies.some(s => s.id === this.study) ? studies : [{id: this.study}, ...studies];
  }

  act(what, data) {
    if (what === 'user') { keepUser(data.token.trim()); this.trouble = ''; }
    if (what === 'study') this.study = data.value;
    if (what === 'overlay') this.overlaid = !this.overlaid;
    if (what === 'ask') this.ask(data.study, data.picture);
  }

  async ask(study, file) {
    this.leave();
    this.study = study;
    this.answer = null;
    this.trouble = '';
    if (!file || file.size === 0) { this.trouble = 'Choose a picture first: a JPEG or PNG file.'; return this.redraw(); }
    if (file.size > kMost) { this.trouble = `This file has ${Math.ceil(file.size / (1 << 20))} MiB; at most 20 are taken.`; return this.redraw(); }
    const answer = this.answer = {number: ++count, file: file.name, study, methods: [], maps: {}, notes: [], done: 0, total: 0, image: null};
    say('The picture is sent.');
    this.redraw();
    try {
      const {question} = await (await call('POST', `studies/${encodeURIComponent(study)}/questions`, file)).json();
      if (this.gone || this.answer !== answer) return void call('DELETE', 'questions/' + question).catch(() => {});
      this.question = question;
      answer.image = await createImageBitmap(await (await call('GET', `questions/${question}/image`)).blob());
      this.redraw();
      for (let after = 0; this.question === question;) {
        const news = await (await call('GET', `questions/${question}?after=${after}`)).json();
        if (this.question !== question) return;
        after += news.updates.length;
        news.updates.forEach(update => this.hear(answer, update));
        answer.done = news.done;
        answer.total = news.total;
        if (news.ended) {
          answer.ended = true;
          if (news.error) throw new Error(news.error);
          say('The explanation is complete.');
          this.leave();
        }
        this.redraw();
        await pause();
      }
    } catch (error) {
      if (this.gone || this.answer !== answer) return;
      this.leave();
      answer.ended = true;
      this.trouble = error instanceof TypeError ? 'The coordinator does not answer. What it knew of the picture is lost: ask again.' : error.message;
      say(this.trouble);
      this.redraw();
    }
  }

  hear(answer, update) {
    if (update.kind === 'start') { answer.methods = update.methods; answer.notes = update.notes; answer.positive = update.positive; }
    if (update.kind === 'prediction') answer.predicted = update.predicted;
    if (update.kind === 'confidence') {
      answer.confidence = update;
      say(update.unlike ? 'Unlike the training images: no confidence is given.' : `The model says ${answer.predicted}.`);
    }
    if (update.kind === 'method') { answer.maps[update.method] = update.maps; say(`${kNames[update.method] || update.method} is drawn.`); }
  }

  redraw() { if (this.main && !this.gone) this.draw(this.main); }

  draw(main) {
    this.main = main;
    const studies = this.studies || [];
    draw(main, h('h1', {}, 'Explain an image'),
      h('p', {class: 'notice', role: 'note'}, h('b', {}, 'Research, not diagnosis.'),
        ' A model’s output on one image says nothing about a person’s health. Show a doctor what worries you.'),
      !user ? this.askForToken() : h('form', {class: 'card ask', 'data-form': 'ask', 'data-stays': true, 'data-drop': true},
        h('label', {for: 'asked'}, 'Study'),
        h('select', {id: 'asked', name: 'study', required: true, 'data-pick': 'study'}, studies.map(s => h('option', {value: s.id, selected: s.id === this.study}, s.id))),
        h('label', {for: 'picture'}, 'Picture'),
        h('input', {id: 'picture', name: 'picture', type: 'file', accept: 'image/jpeg,image/png', 'aria-describedby': 'kept'}),
        h('button', {type: 'submit', class: 'main'}, 'Explain'),
        h('p', {class: 'note', id: 'kept'}, 'JPEG or PNG, at most 20 MiB; it may be dropped here. It goes to the cluster’s memory alone, and is forgotten with this page.')),
      this.trouble && h('p', {class: 'wrong told', role: 'alert'}, this.trouble),
      // Of a picture that was refused there is nothing to show but why.
      this.answer && (this.answer.image || !this.answer.ended) && this.drawAnswer(this.answer));
    // Options change places as studies come and go; what was chosen stays.
    const field = document.getElementById('asked');
    if (field && field.value !== this.study && field !== document.activeElement) field.value = this.study;
    requestAnimationFrame(() => this.paint());
  }

  askForToken() {
    return h('form', {class: 'card sign-in', 'data-form': 'user'},
      h('h2', {}, 'A user’s token is needed'),
      h('p', {}, 'To ask, open the address that ', h('code', {}, 'dermis dashboard --user'), ' prints, or give the token behind it.'),
      h('label', {for: 'user-token'}, 'Token'),
      h('input', {id: 'user-token', name: 'token', type: 'password', autocomplete: 'off', required: true, spellcheck: 'false'}),
      h('button', {type: 'submit', class: 'main'}, 'Go on'));
  }

  drawAnswer(answer) {
    const {confidence} = answer, near = confidence && confidence.familiarity;
    return [
      h('section', {'aria-labelledby': 'said', class: 'said'},
        h('figure', {}, h('canvas', {'data-keep': true, id: 'given', width: kSide, height: kSide, role: 'img', 'aria-label': `${answer.file}, as the model is given it`}),
          h('figcaption', {}, h('b', {}, answer.file), h('br'), 'as the model is given it')),
        h('div', {}, h('h2', {id: 'said'}, !confidence ? (answer.predicted || (answer.ended ? 'No answer' : 'Asking the model')) : confidence.unlike ? 'Unlike the training images' : answer.predicted),
          confidence && !confidence.unlike && h('table', {class: 'chances'}, h('tbody', {}, [...confidence.probabilities].reverse().map(one => h('tr', {},
            h('th', {scope: 'row'}, one.name), h('td', {class: 'share'}, h('svg', {viewBox: '0 0 100 8', preserveAspectRatio: 'none', class: 'bar-line', 'aria-hidden': 'true'},
              h('rect', {class: 'all', width: 100, height: 8}), h('rect', {class: 'done', width: 100 * one.probability, height: 8}))), h('td', {class: 'n'}, percent(one.probability)))))),
          confidence && !confidence.unlike && h('p', {class: 'note'}, confidence.calibrated ? `Calibrated on the validation images of ${answer.study}, which chose the threshold, too: the class is by that, not by one half.` : 'As the model says it: not calibrated.'),
          confidence && confidence.unlike && h('p', {}, `So no confidence is given. The model would call it ${answer.predicted}, as it would call anything.`),
          near && near.threshold != null && h('p', {class: 'note'}, `Distance from the training images ${digits(near.distance, 3)}; of ${near.validation_images} validation images 99 in 100 lie within ${digits(near.threshold, 3)}.`),
          answer.ended && !confidence && answer.predicted && h('p', {}, 'Whether it is like the training images was not found out, so no confidence is given. This is a part of the answer.'),
          !answer.ended && h('p', {class: 'soft'}, answer.total > 0 ? `${answer.done} of ${answer.total} tasks` : 'The picture is on its way', ' ',
            h('svg', {viewBox: '0 0 100 8', preserveAspectRatio: 'none', class: 'bar-line', role: 'progressbar', 'aria-label': 'tasks done', 'aria-valuemin': 0, 'aria-valuemax': answer.total || 1, 'aria-valuenow': answer.done},
              h('rect', {class: 'all', width: 100, height: 8}), h('rect', {class: 'done', width: answer.total ? 100 * answer.done / answer.total : 0, height: 8}))),
          answer.notes.map(note => h('p', {class: 'note'}, note)))),
      near && h('section', {'aria-labelledby': 'nearest'}, h('h2', {id: 'nearest'}, 'Nearest training images'),
        h('div', {class: 'gallery five'}, near.nearest.map((one, i) => h('figure', {id: 'near-' + i},
          h('canvas', {'data-keep': true, width: kSide, height: kSide, role: 'img', 'data-near': one.image, 'aria-label': `${one.name}${one.label ? ', ' + one.label : ''}`}),
          h('figcaption', {}, h('b', {}, one.label || one.name), h('br'), one.label && h('span', {title: one.name}, one.name.split('/').pop()), one.label && h('br'), 'distance ', digits(one.distance, 3)))))),
      answer.methods.length > 0 && h('section', {'aria-labelledby': 'why'}, h('h2', {id: 'why'}, `What speaks for ${answer.positive}, what against`),
        h('p', {class: 'legend'}, h('span', {}, h('span', {class: 'swatch for'}), ` speaks for ${answer.positive}`), h('span', {}, h('span', {class: 'swatch against'}), ' against it'),
          h('button', {type: 'button', 'data-act': 'overlay', 'aria-pressed': String(this.overlaid)}, 'Overlays')),
        h('div', {class: 'gallery large'}, answer.methods.map(method => {
          const maps = answer.maps[method], name = kNames[method] || method, place = maps && maps.length > 0 ? placeOf(maps[0]) : '';
          return h('figure', {id: 'method-' + method},
            h('canvas', {'data-keep': true, width: kSide, height: kSide, role: 'img', 'data-method': method, class: maps ? '' : 'waits',
              'aria-label': !maps ? `${name} has not arrived` : `${name}${this.overlaid ? ', drawn over the picture' : ', not drawn now'}` + (place ? `; the strongest evidence for ${answer.positive} is in ${place}` : `; nothing speaks for ${answer.positive}`)}),
            h('figcaption', {}, h('b', {}, name), maps && maps.length > 0 && maps[0].name ? ` of ${maps[0].name}` : '', h('br'),
              !maps ? (answer.ended ? 'not computed' : 'waits') : place ? `strongest in ${place}` : 'nothing speaks for it'));
        })),
        h('p', {class: 'note'}, 'Strength is relative to the strongest part. Overlays show what moved the model, which need not be what a doctor looks at.'))];
  }

  paint() {
    const answer = this.answer;
    if (!answer) return;
    const once = (canvas, want, how) => {
      if (!canvas || canvas.drawn === want) return;
      canvas.drawn = want;
      const g = canvas.getContext('2d');
      g.clearRect(0, 0, kSide, kSide);
      how(g);
    };
    const key = answer.number + (answer.image ? '!' : '');
    const own = g => answer.image && g.drawImage(answer.image, 0, 0, kSide, kSide);
    once(document.getElementById('given'), key, own);
    for (const canvas of document.querySelectorAll('canvas[data-method]')) {
      const maps = answer.maps[canvas.dataset.method];
      once(canvas, key + (maps && this.overlaid ? '+' : ''), g => { own(g); if (this.overlaid && maps && maps.length > 0) g.drawImage(heat(maps[0]), 0, 0, kSide, kSide); });
    }
    for (const canvas of document.querySelectorAll('canvas[data-near]')) {
      // Canvases are used again: what comes late for an earlier question is not drawn.
      const want = answer.number + ':' + canvas.dataset.near;
      once(canvas, want, g => loadImage(`/api/studies/${encodeURIComponent(answer.study)}/images/${canvas.dataset.near}`)
        .then(image => { if (canvas.drawn === want) g.drawImage(image, 0, 0, kSide, kSide); }, () => { if (canvas.drawn === want) canvas.drawn = ''; }));
    }
  }
}

addEventListener('dragover', event => { if (event.target.closest && event.target.closest('[data-drop]')) event.preventDefault(); });
addEventListener('drop', event => {
  const form = event.target.closest && event.target.closest('[data-drop]');
  if (!form || event.dataTransfer.files.length === 0) return;
  event.preventDefault();
  form.querySelector('input[type=file]').files = event.dataTransfer.files;
  form.requestSubmit();
});
