# SPDX-License-Identifier: MIT
"""What the steps of .docs/build share: which pages there are, and where a file of the repository is on
the site.

    html/            what Doxygen writes: a page for each of PAGES, class and header
    html/source/     listings of files that pages point to, with a line #L12 for each line
"""
import html
import os
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
SITE = pathlib.Path(os.environ['SITE'])
HTML = SITE / 'html'

# The file, and what its page is called in addresses. The first is the front page.
PAGES = {'README.md': 'index'}
PAGES |= {f'.docs/pages/{path.name}': path.stem for path in sorted((ROOT / '.docs/pages').glob('*.md'))}
PAGES |= {f'.github/{name}.md': name.lower()
          for name in ('CONTRACT', 'CHANGELOG', 'CONTRIBUTING', 'SECURITY')}
PAGES |= {'include/eigenheads/mpi/README.md': 'ranks'}


def is_documented(path):
    """Whether it is a header that a program includes, or a part of the layer that its users see."""
    if path == 'include/eigenheads/nn/detail/transformer_stack.hpp':
        return True  # what the stacks have is there
    return (path.startswith('include/eigenheads/') and path.endswith('.hpp') and
            not re.search(r'/(kernels|detail)/', path) and
            not re.search(r'/layer/(?!activations|options|step_calls|key_value_calls)', path))


def repository_files():
    listed = subprocess.run(['git', '-C', str(ROOT), 'ls-files', '-co', '--exclude-standard'],
                            capture_output=True, text=True)
    if listed.returncode == 0:
        return {name for name in listed.stdout.split('\n') if name}
    return {str(path.relative_to(ROOT)) for path in ROOT.rglob('*')  # a copy without its history
            if path.is_file() and '/build/' not in str(path)}


def source_page(path):
    return f'source/{path}.html'


def test_at(name):
    """The file and the line of a test by its name in ctest: folder/file/Suite.Test."""
    file, case = name.rsplit('/', 1)
    suite, test = case.split('.')
    path = f'tests/{file}_test.cpp'
    text = (ROOT / path).read_text(encoding='utf-8')
    match = re.search(rf'TEST(_F|_P)?\({suite},\s*{test}\)', text)
    if not match:
        raise SystemExit(f'{name}: no such test in {path}')
    return path, text.count('\n', 0, match.start()) + 1


def framed(title, body, depth):
    """A page of our own in the frame of the others."""
    frame = (ROOT / '.docs/header.html').read_text(encoding='utf-8')
    footer = (ROOT / '.docs/footer.html').read_text(encoding='utf-8')
    values = {'$title': html.escape(title), '$projectnumber': os.environ['VERSION'],
              '$relpath^': '../' * depth, '$stylesheet': 'style.css'}
    for name, value in values.items():
        frame, footer = frame.replace(name, value), footer.replace(name, value)
    return (f'{frame}</div><div class="header"><div class="headertitle"><div class="title">'
            f'{html.escape(title)}</div></div></div>\n<div class="contents">\n{body}\n</div>\n{footer}')
