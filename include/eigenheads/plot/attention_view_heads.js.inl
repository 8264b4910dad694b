// SPDX-License-Identifier: MIT
// The script of the pages, second part: the grid of heads, which of them is open, and start().
R"js(
// ---- All heads

const heads = byId('heads');
const thumbs = [];  // [layer][head], the grid's cells
const pending = new Set();
const watch = new IntersectionObserver(entries => {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) pending.add(target);
    else pending.delete(target);
  }
  drawThumbs();
}, { rootMargin: '150px' });

const drawThumbs = oncePerFrame(() => {
  const start = performance.now();
  for (const canvas of pending) {
    if (performance.now() - start > 20) return drawThumbs();
    pending.delete(canvas);
    watch.unobserve(canvas);
    drawThumb(canvas);
  }
});

function drawThumb(canvas) {
  const l = Number(canvas.dataset.layer), h = Number(canvas.dataset.head);
  const { queries: Q, keys: K } = layers[l], weights = weightsOf(l, h);
  // Not more pixels than the screen has for it: it would leave some of them out.
  const size = Math.floor(thumbSize() * devicePixelRatio);
  canvas.width = Math.min(K, Math.max(1, Math.floor(size * Math.min(1, K / Q))));
  canvas.height = Math.min(Q, Math.max(1, Math.floor(size * Math.min(1, Q / K))));
  raster(canvas.getContext('2d'), 0, 0, spans(canvas.height, 0, Q / canvas.height, Q),
         spans(canvas.width, 0, K / canvas.width, K), weights, K, scaleOf(weights));
  canvas.dataset.drawn = '';
}

// As large as it takes to see all heads, within reason.
function thumbSize() {
  const most = Math.max(...layers.map(layer => layer.heads.length));
  const across = (heads.clientWidth - 150) / most - 16;
  const down = (Math.max(240, windowHeight() * .46) - 18) / layers.length - 44;
  return Math.floor(clamp(Math.min(across, down), coarse.matches ? 64 : 52, 112));
}

function redrawThumbs() {
  heads.style.setProperty('--thumb', thumbSize() + 'px');
  for (const canvas of heads.querySelectorAll('canvas')) {
    delete canvas.dataset.drawn;
    watch.unobserve(canvas);
    watch.observe(canvas);
  }
}

function makeHeads() {
  layers.forEach((layer, l) => {
    const { queries: Q, keys: K } = layer;
    const row = make('div', '', { role: 'row' });
    const name = make('div', '', { role: 'rowheader' });
    name.append(make('bdi', layer.name), make('small', Q + ' × ' + K));
    row.append(name);
    thumbs.push(layer.heads.map((head, h) => {
      const cell = make('div', '', {
        role: 'gridcell', tabindex: -1, 'aria-selected': false, title: layer.name + ', ' + head,
        'aria-label': layer.name + ', ' + head,
      });
      const frame = make('div', '', { class: 'thumb' });
      if (Q * K > 0) {
        const canvas = make('canvas', '', { 'data-layer': l, 'data-head': h, 'aria-hidden': true });
        const side = ratio => 'max(3px, var(--thumb) * ' + Math.min(1, ratio) + ')';
        canvas.style.width = side(K / Q);
        canvas.style.height = side(Q / K);
        canvas.width = canvas.height = 1;
        frame.append(canvas);
      }
      const caption = make('span');
      caption.append(make('bdi', head));
      cell.append(frame, caption);
      cell.addEventListener('click', () => openHead(l, h, true));
      cell.addEventListener('focus', () => rove(cell));
      row.append(cell);
      return cell;
    }));
    if (layer.heads.length === 0)
      row.append(make('div', 'no heads', { role: 'gridcell', class: 'quiet' }));
    heads.append(row);
  });
}

let roving = null;  // the one head that Tab reaches
function rove(cell) {
  if (roving) roving.tabIndex = -1;
  roving = cell;
  cell.tabIndex = 0;
}

heads.addEventListener('keydown', event => {
  const l = thumbs.findIndex(row => row.includes(event.target));
  if (l < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
  const h = thumbs[l].indexOf(event.target), last = thumbs[l].length - 1;
  const vertically = step => {
    let to = l + step;
    while (thumbs[to] && thumbs[to].length === 0) to += step;
    return thumbs[to] && thumbs[to][Math.min(h, thumbs[to].length - 1)];
  };
  const targets = {
    ArrowLeft: () => thumbs[l][h - 1], ArrowRight: () => thumbs[l][h + 1],
    ArrowUp: () => vertically(-1), ArrowDown: () => vertically(1),
    Home: () => thumbs[l][0], End: () => thumbs[l][last],
  };
  if (event.key === 'Enter' || event.key === ' ') openHead(l, h, true);
  else if (targets[event.key]) targets[event.key]()?.focus();
  else return;
  event.preventDefault();
});

// ---- One head

function openHead(l, h, reveal) {
  const changed = l !== state.layer, old = thumbs[state.layer]?.[state.head];
  old?.setAttribute('aria-selected', false);
  if (changed) state.zoom = 1;
  Object.assign(state, { layer: l, head: h, cell: null, token: null });
  const layer = current(), thumb = thumbs[l][h];
  thumb.setAttribute('aria-selected', true);
  rove(thumb);
  byId('name').replaceChildren(make('bdi', layer.name), ' · ', make('bdi', layer.heads[h]));
  const count = (n, one, many) => n + ' ' + (n === 1 ? one : many);
  byId('shape').textContent =
    count(layer.queries, 'query', 'queries') + ' × ' + count(layer.keys, 'key', 'keys');
  byId('previous').disabled = !neighbour(-1);
  byId('next').disabled = !neighbour(1);
  byId('matrix').setAttribute('aria-label', 'Weights of ' + layer.name + ', ' + layer.heads[h]);
  byId('matrix').setAttribute('aria-rowcount', layer.queries);
  byId('matrix').setAttribute('aria-colcount', layer.keys);
  if (changed) makeTokens();
  const hash = '#layer=' + l + '&head=' + h;
  if (reveal && location.hash !== hash) location.hash = hash;
  refresh();
  if (!reveal) return;
  thumb.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  if (byId('views').getBoundingClientRect().top > innerHeight * .72)
    byId('title').scrollIntoView({ behavior: calm.matches ? 'auto' : 'smooth' });
}

// The head before or behind, in the next layer after the last.
function neighbour(step) {
  const all = layers.flatMap((layer, l) => layer.heads.map((_, h) => [l, h]));
  const at = all.findIndex(([l, h]) => l === state.layer && h === state.head);
  return all[at + step];
}
for (const [id, step] of [['previous', -1], ['next', 1]])
  byId(id).addEventListener('click', () => openHead(...neighbour(step), true));

function followHash() {
  const [, l, h] = (/^#layer=(\d+)&head=(\d+)$/.exec(location.hash) || []).map(Number);
  if (thumbs[l]?.[h] && !(l === state.layer && h === state.head)) openHead(l, h, false);
}

// Everything that depends on the head, its scale or the colours.
function refresh() {
  const weights = weightsOf(state.layer, state.head), [low, high] = scaleOf(weights);
  const bar = byId('bar').getContext('2d');
  for (let level = 0; level < 255; ++level) {
    bar.fillStyle = 'rgb(' + colorOf(level) + ')';
    bar.fillRect(level, 0, 1, 1);
  }
  const middle = low + (high - low) * (state.shading === 'root' ? .25 : .5);
  [low, middle, high].forEach((x, i) => byId('ends').children[i].textContent = valueText(x));
  byId('nan').hidden = !weights.hasNaN;
  byId('nan').firstChild.style.background = 'rgb(' + colorOf(nanLevel) + ')';
  const line = colorOf(dark.matches ? model.darkLine : model.lightLine);
  document.documentElement.style.setProperty('--data', line);
  layOutMatrix();
  layOutLines();
}

// "3 'cat'", or "3" of an axis without labels.
const labelsOf = side => side === 'query' ? current().queryLabels : current().keyLabels;
const textOf = (side, i) => labelsOf(side).length > 0 ? labelsOf(side)[i] : String(i);
const spokenOf = (side, i) =>
  side + ' ' + i + (labelsOf(side).length > 0 ? " '" + labelsOf(side)[i] + "'" : '');
const say = text => byId('said').textContent = text;

// ---- The beginning

for (const input of byId('tools').querySelectorAll('input')) {
  input.checked = state[input.name] === input.value;
  input.addEventListener('change', () => {
    state[input.name] = input.value;
    refresh();
    redrawThumbs();
  });
}

function start() {
  const count = layers.reduce((sum, layer) => sum + layer.heads.length, 0);
  const plural = (n, word) => n + ' ' + word + (n === 1 ? '' : 's');
  byId('summary').textContent = plural(layers.length, 'layer') + ', ' + plural(count, 'head');
  if (count === 0) {
    byId('nothing').hidden = false;
    return;
  }
  for (const id of ['tools', 'heads', 'detail', 'help']) byId(id).hidden = false;
  makeHeads();
  followHash();
  if (state.layer < 0) openHead(layers.findIndex(layer => layer.heads.length > 0), 0, false);
  redrawThumbs();
  addEventListener('hashchange', followHash);
  const again = oncePerFrame(() => (refresh(), redrawThumbs()));
  new ResizeObserver(oncePerFrame(refresh)).observe(byId('views'));
  let size = '';
  addEventListener('resize', () => {
    const now = [document.documentElement.clientWidth, windowHeight(), devicePixelRatio].join();
    if (now !== size) again();
    size = now;
  });
  coarse.addEventListener('change', again);
  dark.addEventListener('change', again);
}
)js"
