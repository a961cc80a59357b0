// Which page is shown, and how often it looks again. Reads only, but for questions about images (photo.js); the address after '#/' is
// the page.
import {SignedOut, bytes, draw, get, h, number, percent, say, session} from './api.js';
import {EventsPage, StudiesPage, WorkersPage} from './cluster.js';
import {PhotoPage, keepUser} from './photo.js';
import {StudyPage} from './study.js';

const kEvery = 2000;
const main = document.getElementById('main');
const trouble = document.getElementById('trouble');
let page = null, timer = 0, turn = 0, reached = true;

function route() {
  const [, name, ...rest] = location.hash.replace(/^#/, '').split('/');
  if (name === 'study' && rest.length > 0) return new StudyPage(decodeURIComponent(rest.join('/')));
  if (name === 'explain') return new PhotoPage(rest.length > 0 ? decodeURIComponent(rest.join('/')) : '');
  if (name === 'workers') return new WorkersPage();
  if (name === 'events') return new EventsPage();
  return new StudiesPage();
}

function pulse(cluster) {
  const busy = cluster.workers.reduce((sum, w) => sum + w.busy_now, 0);
  const n = cluster.workers.length;
  draw(document.getElementById('pulse'),
    `${number(n)} worker${n === 1 ? '' : 's'}`, n > 0 && ` · ${percent(busy / n)} busy`,
    ` · ${number(cluster.tasks_open)} tasks open · ${bytes(cluster.free_bytes)} free`);
  const problems = [];
  if (cluster.age > 10) problems.push(`The coordinator has been silent for ${Math.round(cluster.age)} s: what you see is as old.`);
  if (cluster.disk_low) problems.push('The disk is almost full: new studies and blobs are refused until there is space.');
  draw(trouble, ...problems.concat(cluster.alarms.slice(-3)).map(text => h('p', {}, text)));
}

function signIn(message) {
  clearTimeout(timer);
  if (page && page.left) page.left();
  page = null;
  document.getElementById('sign-out').hidden = true;
  draw(document.getElementById('pulse'));
  main.replaceChildren(h('form', {class: 'card sign-in', 'data-form': 'sign-in'},
    h('h1', {}, 'Sign in'),
    h('p', {}, 'The command ', h('code', {}, 'dermis dashboard'), ' prints an address that signs in, and the token behind it.'),
    h('label', {for: 'token'}, 'Token'),
    h('input', {id: 'token', type: 'password', autocomplete: 'current-password', required: true, spellcheck: 'false'}),
    message && h('p', {class: 'wrong', role: 'alert'}, message),
    h('button', {type: 'submit', class: 'main'}, 'Sign in')));
  document.getElementById('token').focus();
}

async function look() {
  clearTimeout(timer);
  const mine = ++turn, shown = page;
  if (!shown || document.hidden) return;
  try {
    const [cluster] = await Promise.all([get('cluster'), shown.load()]);
    if (mine !== turn) return;
    pulse(cluster);
    document.getElementById('sign-out').hidden = false;
    shown.draw(main, cluster);
    if (!reached) say('The coordinator answers again.');
    reached = true;
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof SignedOut) return signIn();
    if (error instanceof TypeError) {  // fetch found nobody.
      reached = false;
      draw(trouble, h('p', {}, 'The coordinator does not answer. Trying again.'));
    } else {
      draw(main, h('h1', {}, 'Nothing to show'), h('p', {}, error.message), h('p', {}, h('a', {href: '#/'}, 'All studies')));
    }
  }
  timer = setTimeout(look, kEvery);
}

function show() {
  if (location.hash && !location.hash.startsWith('#/')) return;
  if (page && page.left) page.left();
  page = route();
  document.title = `${page.title} · Dermis`;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.page === page.name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  main.replaceChildren(h('p', {class: 'empty'}, 'Loading'));
  window.scrollTo(0, 0);
  look();
}

main.addEventListener('click', event => {
  const button = event.target.closest('[data-act]');
  if (button && page && page.act) { page.act(button.dataset.act, button.dataset); look(); }
});
main.addEventListener('change', event => {
  const field = event.target.closest('[data-pick]');
  if (field && page && page.act) { page.act(field.dataset.pick, {...field.dataset, value: field.value, checked: field.checked}); look(); }
});
main.addEventListener('submit', async event => {
  event.preventDefault();
  const form = event.target;
  if (form.dataset.form === 'sign-in') {
    const wrong = await session(document.getElementById('token').value.trim());
    if (wrong) signIn(wrong); else show();
  } else if (page && page.act) {
    page.act(form.dataset.form, Object.fromEntries(new FormData(form)));
    if (!('stays' in form.dataset)) form.reset();
    look();
  }
});
document.getElementById('sign-out').addEventListener('click', async () => { if (page && page.left) page.left(); keepUser(''); await session(''); signIn(); });
document.querySelector('.skip').addEventListener('click', event => { event.preventDefault(); main.focus(); });
document.addEventListener('visibilitychange', look);
addEventListener('hashchange', () => { begin(); });
addEventListener('resize', () => page && page.resized && page.resized());
// Parts of a page that have news of their own.
addEventListener('look', look);

async function begin() {
  const found = location.hash.match(/^#(token|user)=([0-9a-f]+)$/);
  if (!found) return show();
  const user = found[1] === 'user';
  // Out of the address bar and the history before anything else.
  history.replaceState(null, '', location.pathname + (user ? '#/explain' : '#/'));
  const wrong = await session(found[2]);
  if (user && !wrong) keepUser(found[2]);
  if (wrong) signIn(wrong); else show();
}
begin();
