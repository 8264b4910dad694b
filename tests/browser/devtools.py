# SPDX-License-Identifier: MIT
"""A headless Chromium, driven through the DevTools protocol over --remote-debugging-pipe.

The browser reads commands from its descriptor 3 and writes answers and events to 4, each a JSON
object that ends in a zero byte. https://chromedevtools.github.io/devtools-protocol/
"""
import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time

PATIENCE = 60  # seconds that any one thing may take


class Browser:
    def __init__(self, program):
        self.profile = tempfile.mkdtemp(prefix='eigenheads_browser_')
        commands, self._out = os.pipe()
        self._in, answers = os.pipe()
        commands, answers = (self._moved(fd) for fd in (commands, answers))
        arguments = [
            program, '--headless', '--remote-debugging-pipe', f'--user-data-dir={self.profile}',
            '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--hide-scrollbars',
            '--disable-background-networking', '--disable-component-update', '--disable-sync',
            '--disable-extensions', '--host-resolver-rules=MAP * ~NOTFOUND',
            '--proxy-server=127.0.0.1:9',
        ]
        if os.geteuid() == 0:
            arguments.append('--no-sandbox')

        placed = f'exec "$@" 3<&{commands} 4>&{answers} {commands}<&- {answers}>&-'
        self.log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            ['bash', '-c', placed, 'bash', *arguments], pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(commands)
        os.close(answers)
        self._bytes = bytearray()
        self._number = 0
        self.events = []

    @staticmethod
    def _moved(descriptor):
        """To a number above those that the browser's are placed at."""
        moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
        os.close(descriptor)
        return moved

    def call(self, method, session=None, **parameters):
        self._number += 1
        number = self._number
        message = {'id': number, 'method': method, 'params': parameters}
        if session:
            message['sessionId'] = session
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self._out, data):]
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._receive(deadline, method)
            if answer.get('id') != number:
                continue
            if 'error' in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            return answer['result']

    def _receive(self, deadline, what):
        while True:
            end = self._bytes.find(b'\0')
            if end >= 0:
                message = json.loads(self._bytes[:end])
                del self._bytes[:end + 1]
                if 'method' in message:
                    self.events.append(message)
                return message
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError(f'{what}: no answer in {PATIENCE} s\n{self._last_words()}')
            some = os.read(self._in, 1 << 20)
            if not some:
                raise RuntimeError(f'the browser ended during {what}\n{self._last_words()}')
            self._bytes += some

    def _last_words(self):
        self.log.seek(0)
        return self.log.read().decode(errors='replace')[-2000:]

    def close(self):
        try:
            self.call('Browser.close')
        except (OSError, RuntimeError, TimeoutError):
            self._process.kill()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)


class Page:
    """A tab that may reach no network."""

    def __init__(self, browser):
        self.browser = browser
        target = browser.call('Target.createTarget', url='about:blank')['targetId']
        self.session = browser.call(
            'Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(domain + '.enable')
        self.call('Network.emulateNetworkConditions', offline=True, latency=0,
                  downloadThroughput=-1, uploadThroughput=-1)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def events(self, method):
        return [event['params'] for event in self.browser.events
                if event['method'] == method and event.get('sessionId') == self.session]

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited if it is a promise."""
        answer = self.call('Runtime.evaluate', expression=expression, returnByValue=True,
                           awaitPromise=True)
        if 'exceptionDetails' in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer['result'].get('value')

    def wait(self, expression):
        """Until the expression is true; returns its value."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            value = self.evaluate(expression)
            if value:
                return value
            time.sleep(.02)
        raise TimeoutError(f'not true in {PATIENCE} s: {expression}')

    def settle(self):
        """Until what is to be drawn is drawn."""
        self.evaluate('new Promise(done => requestAnimationFrame(() => '
                      'requestAnimationFrame(() => setTimeout(done, 0))))')

    def open(self, url):
        loads = len(self.events('Page.loadEventFired'))
        error = self.call('Page.navigate', url=url).get('errorText')
        if error:
            raise RuntimeError(f'{url}: {error}')
        deadline = time.monotonic() + PATIENCE
        while len(self.events('Page.loadEventFired')) == loads:
            if time.monotonic() > deadline:
                raise TimeoutError(f'{url} was not loaded in {PATIENCE} s')
            self.evaluate('0')  # collects events
            time.sleep(.02)

    def emulate(self, width, height, dark=False, touch=False, scale=1, reduced_motion=False):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
                  deviceScaleFactor=scale, mobile=touch)
        self.call('Emulation.setTouchEmulationEnabled', enabled=touch,
                  maxTouchPoints=2 if touch else 1)
        self.call('Emulation.setEmulatedMedia', features=[
            {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'},
            {'name': 'prefers-reduced-motion',
             'value': 'reduce' if reduced_motion else 'no-preference'},
        ])
        self.settle()

    def move(self, x, y):
        self.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y)

    def click(self, x, y):
        self.move(x, y)
        for kind in ('mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=x, y=y, button='left', clickCount=1)

    def tap(self, x, y):
        self.call('Input.dispatchTouchEvent', type='touchStart', touchPoints=[{'x': x, 'y': y}])
        self.call('Input.dispatchTouchEvent', type='touchEnd', touchPoints=[])

    # Key names and their codes: https://w3c.github.io/uievents-key/
    KEYS = {'Enter': 13, 'Escape': 27, ' ': 32, 'End': 35, 'Home': 36, 'ArrowLeft': 37,
            'ArrowUp': 38, 'ArrowRight': 39, 'ArrowDown': 40, 'Tab': 9}

    def press(self, *keys):
        for key in keys:
            text = {'Enter': '\r', ' ': ' '}.get(key, '')
            for kind in ('keyDown' if text else 'rawKeyDown', 'keyUp'):
                extra = {'text': text} if text and kind == 'keyDown' else {}
                self.call('Input.dispatchKeyEvent', type=kind, key=key,
                          code='Space' if key == ' ' else key,
                          windowsVirtualKeyCode=self.KEYS[key], **extra)

    def screenshot(self, path, full=False):
        answer = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=full)
        with open(path, 'wb') as file:
            file.write(base64.b64decode(answer['data']))
