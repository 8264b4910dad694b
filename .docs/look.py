# SPDX-License-Identifier: MIT
"""look.py CHROMIUM FOLDER: opens pages from file:// on a phone and on a desk, in light and dark, searches,
and follows what it finds. Screenshots go to FOLDER."""
import pathlib
import sys

from site_pages import HTML, PAGES, ROOT

sys.path.insert(0, str(ROOT / 'tests/browser'))
from devtools import Browser, Page  # noqa: E402

checks = failures = 0
LOOKED_AT = [f'{name}.html' for name in PAGES.values()] + [
    'reference.html', 'mask_8hpp.html', 'classMultiHeadAttention.html',
    'namespacempi.html', 'source/tests/contract_test.cpp.html']


def check(what, got, expected=True):
    global checks, failures
    checks += 1
    if got != expected:
        failures += 1
        print(f'FAILED {what}: got {got!r}, expected {expected!r}', flush=True)


# What reaches beyond the window, and is in nothing that scrolls by itself.
WIDE = """[...document.querySelectorAll('main *, header *')].filter(element => {
  if (!element.checkVisibility() || element.getBoundingClientRect().right <= innerWidth + 1) return false;
  for (let e = element.parentElement; e; e = e.parentElement)
    if (['auto', 'hidden', 'scroll'].includes(getComputedStyle(e).overflowX)) return false;
  return true;
}).slice(0, 3).map(e => e.outerHTML.slice(0, 80))"""


def open_page(page, name):
    page.open((HTML / name).as_uri())
    page.settle()


def look(page, folder, width, height, dark, touch):
    page.emulate(width, height, dark=dark, touch=touch)
    for name in LOOKED_AT:
        open_page(page, name)
        check(f'{name}: what is wider than {width}', page.evaluate(WIDE), [])
        check(f'{name}: the width', page.evaluate('document.documentElement.scrollWidth'), width)
        check(f'{name}: it has a heading', page.evaluate("!!document.querySelector('.title, h1')"))
        page.screenshot(folder / f'{width}{"_dark" if dark else ""}_{name.replace("/", "_")}.png')


def search(page, words):
    open_page(page, 'masks.html')
    page.evaluate(f"""(() => {{
      const field = document.getElementById('find');
      field.focus();
      field.value = {words!r};
      field.dispatchEvent(new Event('input'));
    }})()""")
    return page.evaluate("[...document.querySelectorAll('#found a')].map(a => a.textContent)")


def use(page, folder):
    page.emulate(1280, 900)
    for words, found in {'MultiHeadAttention': 'MultiHeadAttentionclass', 'score fun': 'Score functionspage',
                         'mask.hpp': 'mask.hppheader', 'kvcache trunc': 'truncateAnyKvCache',
                         'pack': 'packsequences.hpp', 'windows': 'Windows, sinks and prefixesMasks'}.items():
        check(f'what is found for {words!r}', found in search(page, words)[:6])
    check('nothing is found', search(page, 'xyzzy'), [])
    search(page, 'valid_lens')
    page.screenshot(folder / 'search.png')
    page.press('Enter')
    page.wait("!location.pathname.endsWith('masks.html')")
    page.settle()
    check('Enter goes there', page.evaluate("!!document.querySelector(location.hash || 'main')"))

    open_page(page, 'masks.html')
    check('the page is marked in the menu',
          page.evaluate("document.querySelector('#guide [aria-current]').textContent"), 'Masks')
    open_page(page, 'contract.html')
    page.evaluate("document.querySelector('main a[href*=contract_test]').click()")
    page.wait("location.hash.startsWith('#L')")
    check('a promise leads to its test', page.evaluate(
        "document.querySelector(location.hash).textContent.includes('TEST')"))

    page.emulate(390, 844, touch=True)
    open_page(page, 'index.html')
    check('the menu is closed', page.evaluate("document.getElementById('guide').checkVisibility()"), False)
    page.evaluate("document.getElementById('menu').click()")
    check('the menu opens', page.evaluate("document.getElementById('guide').checkVisibility()"))
    page.settle()
    page.screenshot(folder / 'menu.png')
    search(page, 'kv')
    page.screenshot(folder / 'search_phone.png')
    check('the results fit', page.evaluate('document.documentElement.scrollWidth'), 390)


def main():
    folder = pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    browser = Browser(sys.argv[1])
    try:
        page = Page(browser)
        look(page, folder, 390, 844, dark=False, touch=True)
        look(page, folder, 1280, 900, dark=False, touch=False)
        look(page, folder, 1281, 900, dark=True, touch=False)
        use(page, folder)
        check('nothing is logged', page.events('Log.entryAdded') + page.events('Runtime.exceptionThrown'), [])
    finally:
        browser.close()
    print(f'{checks} checks, {failures} failed; screenshots in {folder}')
    return failures > 0


if __name__ == '__main__':
    sys.exit(main())
