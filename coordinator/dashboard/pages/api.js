// Talking to the coordinator, and drawing without losing focus, scroll position or what is open.

export class SignedOut extends Error {}

export async function get(path) {
  const response = await fetch('/api/' + path, {credentials: 'same-origin'});
  if (response.status === 401) throw new SignedOut();
  const answer = await response.json().catch(() => ({error: response.statusText}));
  if (!response.ok) throw new Error(answer.error || response.statusText);
  return answer;
}

// An empty token signs out.
export async function session(token) {
  const response = await fetch('/api/session', {method: 'POST', body: token, credentials: 'same-origin'});
  if (response.ok) return '';
  return (await response.json().catch(() => ({}))).error || response.statusText;
}

const kSvg = new Set(['svg', 'path', 'line', 'rect', 'circle', 'g', 'text', 'polyline', 'title']);

// h('td', {class: 'n'}, 'text', node, [nodes]): an element. False, null and undefined are left out.
export function h(tag, attributes, ...children) {
  const node = kSvg.has(tag) ? document.createElementNS('http://www.w3.org/2000/svg', tag)
                             : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === true) node.setAttribute(name, '');
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  for (const child of children.flat(9)) {
    if (child !== false && child != null) node.append(child);
  }
  return node;
}

// Makes `old` look like `fresh` with as few changes as possible. Elements with data-keep are drawn by others and stay.
function morph(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const {name} of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open' && name !== 'data-drawn') old.removeAttribute(name);
  }
  for (const {name, value} of fresh.attributes) {
    if (old.getAttribute(name) !== value && name !== 'open') old.setAttribute(name, value);
  }
  if (old.hasAttribute('data-keep') || old.nodeName === 'INPUT') return;
  if (old.nodeName === 'SELECT' && old === document.activeElement) return;
  morphChildren(old, [...fresh.childNodes]);
}

function morphChildren(parent, fresh) {
  const old = [...parent.childNodes];
  fresh.forEach((child, i) => (i < old.length ? morph(old[i], child) : parent.append(child)));
  old.slice(fresh.length).forEach(child => child.remove());
}

export function draw(parent, ...nodes) {
  morphChildren(parent, nodes.flat(9).filter(Boolean).map(n => (n instanceof Node ? n : document.createTextNode(n))));
}

// Screen readers hear it once.
export function say(text) {
  const spoken = document.getElementById('spoken');
  if (spoken.textContent !== text) spoken.textContent = text;
}

export const number = n => (n == null ? '–' : n.toLocaleString('en'));
export const percent = share => (share == null ? '–' : Math.round(share * 100) + ' %');
export const digits = (x, n = 4) => (x == null ? '–' : Math.abs(x) < 1e-3 && x !== 0 ? x.toExponential(2) : x.toFixed(n));
export function bytes(n) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let u = 0;
  for (; n >= 1000 && u < 4; ++u) n /= 1000;
  return n.toFixed(n < 10 && u > 0 ? 1 : 0) + ' ' + units[u];
}
export function ago(ms) {
  const s = Math.max(0, (Date.now() - ms) / 1000);
  if (s < 60) return 'just now';
  if (s < 3600) return Math.floor(s / 60) + ' min ago';
  if (s < 86400) return Math.floor(s / 3600) + ' h ago';
  return Math.floor(s / 86400) + ' d ago';
}
export const when = ms => h('time', {datetime: new Date(ms).toISOString(), title: new Date(ms).toLocaleString()}, ago(ms));
export const isOpen = study => study.phase === 'running' || study.phase === 'paused';
export const chip = (text, kind) => h('span', {class: 'chip ' + (kind || text)}, text);

// A page of a long list. `name` is the action that its buttons carry.
export function pager(name, offset, limit, total) {
  if (total <= limit) return null;
  const last = Math.min(offset + limit, total);
  return h('div', {class: 'pager'},
    h('button', {type: 'button', 'data-act': name, 'data-to': Math.max(0, offset - limit), disabled: offset === 0}, 'Previous'),
    h('span', {}, `${number(offset + 1)}–${number(last)} of ${number(total)}`),
    h('button', {type: 'button', 'data-act': name, 'data-to': offset + limit, disabled: last >= total}, 'Next'));
}
