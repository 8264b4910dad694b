# SPDX-License-Identifier: MIT
"""links.py: every link of the site leads to a file that is there and to an anchor in it, and nothing is
fetched from elsewhere. Prints the addresses outside, which are not fetched, with how many pages have them."""
import collections
import html.parser
import posixpath
import sys
import urllib.parse

from site_pages import HTML


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__(convert_charrefs=True)
        self.anchors, self.links, self.fetched = set(), [], []
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        for name in ('id', 'name'):
            if attributes.get(name):
                self.anchors.add(attributes[name])
        if tag in ('a', 'area') and attributes.get('href'):
            self.links.append(attributes['href'])
        target = attributes.get('src') or (tag == 'link' and attributes.get('href'))
        if target:
            self.fetched.append(target)


pages = {path.relative_to(HTML).as_posix(): Page(path) for path in sorted(HTML.rglob('*.html'))}
files = {path.relative_to(HTML).as_posix() for path in HTML.rglob('*') if path.is_file()}
outside = collections.Counter()
reached = {'index.html'}
bad = []
count = 0
for name, page in pages.items():
    for link in page.links + page.fetched:
        count += 1
        url = urllib.parse.urlsplit(link)
        if url.scheme in ('http', 'https', 'mailto'):
            outside[link] += 1
            if link in page.fetched:
                bad.append(f'{name}: {link} is fetched from elsewhere')
            continue
        if url.scheme:
            bad.append(f'{name}: {link} is no address of a page')
            continue
        path = urllib.parse.unquote(url.path)
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
        if target not in files:
            bad.append(f'{name}: there is no {link}')
        elif url.fragment and urllib.parse.unquote(url.fragment) not in pages[target].anchors:
            bad.append(f'{name}: {link} has no such anchor')
        reached.add(target)
bad += [f'{name}: no page leads here' for name in sorted(set(pages) - reached)]

with open(HTML.parent / 'outside.txt', 'w', encoding='utf-8') as out:
    out.writelines(f'{number} {link}\n' for link, number in sorted(outside.items()))
print('\n'.join(bad[:50]))
print(f'{count} links of {len(pages)} pages, {len(outside)} of them outside, {len(bad)} broken')
sys.exit(bool(bad))
