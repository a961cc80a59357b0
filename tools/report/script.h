// The page's one script: what a reader may change. Without it all is shown, in the reader's own
// light.
#ifndef DERMIS_TOOLS_REPORT_SCRIPT_H_
#define DERMIS_TOOLS_REPORT_SCRIPT_H_

namespace dermis {

inline constexpr char kReportScript[] = R"js(
(() => {
  const root = document.documentElement;
  const make = (tag, more, ...children) => {
    const element = Object.assign(document.createElement(tag), more);
    element.append(...children);
    return element;
  };

  // Dark, light, or as the system.
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme || (dark.matches ? 'dark' : 'light')) === 'dark';
  const theme = make('button', {type: 'button', className: 'theme'});
  const name = () => { theme.textContent = isDark() ? 'Light' : 'Dark'; };
  theme.addEventListener('click', () => { root.dataset.theme = isDark() ? 'light' : 'dark'; name(); });
  dark.addEventListener('change', name);
  name();
  document.querySelector('.top').append(theme);

  // On paper nothing can be unfolded.
  let opened = [];
  addEventListener('beforeprint', () => {
    opened = [...document.querySelectorAll('details:not([open])')];
    for (const one of opened) one.open = true;
    for (const image of document.querySelectorAll('img[loading]')) image.loading = 'eager';
  });
  addEventListener('afterprint', () => { for (const one of opened) one.open = false; opened = []; });

  const cases = [...document.querySelectorAll('.case')];
  if (cases.length === 0) return;
  const values = (key) => [...new Set(cases.map((one) => one.dataset[key]).filter(Boolean))].sort();
  const methods = [...new Set([...document.querySelectorAll('.case [data-method]')].map((one) => one.dataset.method))];
  const bar = make('form', {className: 'filters', ariaLabel: 'Which explanations are shown'});
  const said = make('output');
  const chosen = {cell: 'all', method: 'all', sure: 0};
  const apply = () => {
    let shown = 0;
    for (const one of cases) {
      const fits = (chosen.cell === 'all' || one.dataset.cell === chosen.cell) &&
                   Number(one.dataset.confidence || 1) >= chosen.sure;
      one.hidden = !fits;
      shown += fits;
      const link = document.querySelector('.index a[href="#' + one.id + '"]');
      if (link) link.hidden = !fits;
    }
    for (const one of document.querySelectorAll('.case [data-method]')) {
      one.hidden = chosen.method !== 'all' && one.dataset.method !== chosen.method;
    }
    said.textContent = shown + ' of ' + cases.length + ' images';
  };
  const choice = (label, key, options, all) => {
    const select = make('select', {}, make('option', {value: 'all', textContent: all}),
                        ...options.map((value) => make('option', {value, textContent: value})));
    select.addEventListener('change', () => { chosen[key] = select.value; apply(); });
    bar.append(make('label', {}, label, select));
  };
  const cells = values('cell');
  if (cells.length > 1) choice('outcome', 'cell', cells, 'all outcomes');
  if (methods.length > 1) choice('method', 'method', methods, 'all methods');
  if (cases.some((one) => one.dataset.confidence)) {
    const shown = make('span', {textContent: 'any'});
    const range = make('input', {type: 'range', min: 0.5, max: 1, step: 0.01, value: 0.5});
    range.addEventListener('input', () => {
      chosen.sure = range.value > 0.5 ? Number(range.value) : 0;
      shown.textContent = chosen.sure ? '≥ ' + chosen.sure.toFixed(2) : 'any';
      apply();
    });
    bar.append(make('label', {}, 'confidence ', range, shown));
  }
  const toggle = (label, kind) => {
    if (!document.querySelector('.case .' + kind)) return;
    const box = make('input', {type: 'checkbox', checked: true});
    box.addEventListener('change', () => root.classList.toggle('without-' + kind, !box.checked));
    bar.append(make('label', {className: 'check'}, box, label));
  };
  toggle('overlays', 'overlay');
  toggle('outlines of masks', 'mask');
  bar.append(said);
  bar.addEventListener('submit', (event) => event.preventDefault());
  document.querySelector('.index').before(bar);
  apply();
  // A link to an image that is filtered away shows it.
  addEventListener('hashchange', () => {
    const one = document.getElementById(location.hash.slice(1));
    if (one && one.classList.contains('case') && one.hidden) { one.hidden = false; one.scrollIntoView(); }
  });
})();
)js";

}  // namespace dermis

#endif  // DERMIS_TOOLS_REPORT_SCRIPT_H_
