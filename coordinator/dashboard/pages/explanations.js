// Explanations as they arrive: an image and, over it, what speaks for the positive class and what against.
import {get, h, number, pager} from './api.js';

const kImages = 12, kSide = 224;
const kFor = [255, 0, 81], kAgainst = [0, 139, 251];

export class Explanations {
  offset = 0;
  method = 0;
  constructor(id) { this.path = `studies/${encodeURIComponent(id)}/`; }

  async load() { this.data = await get(this.path + `explanations?offset=${this.offset}&limit=${kImages}`); }

  act(what, data) {
    if (what === 'images') this.offset = +data.to;
    if (what === 'method') this.method = +data.value;
  }

  draw(study) {
    const {rows, methods, total} = this.data;
    if (total === 0) return null;
    requestAnimationFrame(() => this.paint());
    return h('section', {'aria-labelledby': 'explained'}, h('h2', {id: 'explained'}, 'Explanations'),
      h('div', {class: 'filters'}, h('label', {}, 'Method ', h('select', {id: 'method', 'data-pick': 'method'},
        methods.map((name, m) => h('option', {value: m, selected: m === this.method}, name.replaceAll('_', ' '))))),
        h('span', {class: 'soft'}, `${number(study.explanations.done)} of ${number(study.explanations.total)} have arrived`)),
      h('div', {class: 'gallery'}, rows.map(row => {
        const there = row.done[this.method];
        return h('figure', {id: 'image-' + row.row},
          h('canvas', {'data-keep': true, width: kSide, height: kSide, role: 'img', 'data-image': row.image,
            'data-map': there ? `${row.row}/${this.method}` : '', class: there ? '' : 'waits',
            'aria-label': `${row.name || 'image ' + row.image}, ${row.why}; ${methods[this.method].replaceAll('_', ' ')} ${there ? 'is drawn over it' : 'has not arrived'}`}),
          h('figcaption', {}, h('b', {}, row.name || 'image ' + row.image), h('br'), row.why, !there && ' · waits'));
      })),
      pager('images', this.offset, kImages, total),
      h('p', {class: 'note'}, h('span', {class: 'swatch for'}), ' speaks for the positive class, ', h('span', {class: 'swatch against'}),
        ' against it; strength relative to the strongest part of the same image. The report has scales and numbers.'));
  }

  paint() {
    for (const canvas of document.querySelectorAll('.gallery canvas')) {
      const want = canvas.dataset.image + ':' + canvas.dataset.map;
      if (canvas.drawn === want) continue;
      canvas.drawn = want;
      this.paintOne(canvas).catch(() => { canvas.drawn = ''; });
    }
  }

  async paintOne(canvas) {
    const want = canvas.drawn, g = canvas.getContext('2d');
    const [image, maps] = await Promise.all([loadImage(`/api/${this.path}images/${canvas.dataset.image}`),
      canvas.dataset.map ? get(this.path + 'explanations/' + canvas.dataset.map).catch(() => null) : null]);
    if (canvas.drawn !== want) return;
    g.clearRect(0, 0, kSide, kSide);
    g.drawImage(image, 0, 0, kSide, kSide);
    if (!maps || maps.maps.length === 0) return;
    g.drawImage(heat(maps.maps[0]), 0, 0, kSide, kSide);
  }
}

export function loadImage(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = source;
  });
}

// Each part's value as a colour, the strongest one the fullest.
export function heat(map) {
  let values = map.values;
  if (map.cells) {
    const bytes = atob(map.cells);
    values = Array.from({length: map.width * map.height}, (_, i) => map.values[bytes.charCodeAt(2 * i) | (bytes.charCodeAt(2 * i + 1) << 8)]);
  }
  const most = Math.max(1e-12, ...map.values.map(v => Math.abs(v ?? 0)));
  const canvas = document.createElement('canvas');
  canvas.width = map.width;
  canvas.height = map.height;
  const pixels = new ImageData(map.width, map.height);
  values.forEach((value, i) => {
    const share = (value ?? 0) / most;
    pixels.data.set([...(share > 0 ? kFor : kAgainst), 165 * Math.abs(share)], 4 * i);
  });
  canvas.getContext('2d').putImageData(pixels, 0, 0);
  return canvas;
}
