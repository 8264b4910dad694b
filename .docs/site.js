// SPDX-License-Identifier: MIT
// The menu of small windows, and the search: both work from file://, without a server.
'use strict';
const root = document.body.dataset.root;
const here = location.pathname.split('/').pop() || 'index.html';
for (const link of document.querySelectorAll('#guide a'))
  if (link.getAttribute('href') === root + here) link.ariaCurrent = 'page';

const menu = document.getElementById('menu');
menu.onclick = () => {
  const open = document.body.classList.toggle('open');
  menu.setAttribute('aria-expanded', String(open));
};

// searchIndex: [name, what it belongs to, address], in the order of their worth (finish.py).
const field = document.getElementById('find'), list = document.getElementById('found');

function matches(text) {
  const words = text.toLowerCase().split(/[\s:]+/).filter(word => word);
  if (!words.length) return [];
  const last = words[words.length - 1], ranked = [[], [], [], []];
  for (const entry of searchIndex) {
    const name = entry[0].toLowerCase(), all = name + ' ' + entry[1].toLowerCase();
    if (!words.every(word => all.includes(word))) continue;
    const rank = name === last ? 0 : name.startsWith(last) ? 1 : name.includes(last) ? 2 : 3;
    ranked[rank].push(entry);
  }
  return ranked.flat().slice(0, 40);
}

function show() {
  const found = matches(field.value);
  list.replaceChildren(...found.map(([name, owner, address]) => {
    const item = document.createElement('li'), link = document.createElement('a');
    link.href = root + address;
    link.append(name);
    if (owner) link.append(Object.assign(document.createElement('small'), {textContent: owner}));
    item.append(link);
    return item;
  }));
  if (!found.length && field.value.trim()) list.innerHTML = '<li class="none">Nothing found</li>';
  list.hidden = !field.value.trim();
}

const links = () => [...list.querySelectorAll('a')];
field.oninput = show;
field.onfocus = show;
document.addEventListener('click', event => {
  if (!event.target.closest('.search')) list.hidden = true;
});
document.addEventListener('keydown', event => {
  const at = links().indexOf(document.activeElement);
  if (event.key === '/' && !event.target.closest('input')) {
    field.focus();
  } else if (event.key === 'Escape') {
    list.hidden = true;
  } else if (event.key === 'Enter' && event.target === field && links().length) {
    links()[0].click();
  } else if (event.key === 'ArrowDown' && (at >= 0 || event.target === field)) {
    links()[Math.min(at + 1, links().length - 1)]?.focus();
  } else if (event.key === 'ArrowUp' && at >= 0) {
    (links()[at - 1] || field).focus();
  } else {
    return;
  }
  event.preventDefault();
});
