// SPDX-License-Identifier: MIT
// The style of the pages of attention_view.hpp.
R"css(
:root {
  color-scheme: light dark;
  --page: #f5f5f2; --surface: #ffffff; --ink: #1c1d20; --muted: #5a5d66; --line: #dfdfda;
  --accent: #1d5bd0; --soft: #e8effc; --tip: #1c1d20; --tip-ink: #ffffff;
  --shadow: 0 1px 2px rgb(0 0 0 / .05), 0 2px 10px rgb(0 0 0 / .04);
  --numbers: ui-monospace, "SF Mono", "Cascadia Mono", Menlo, Consolas, "DejaVu Sans Mono",
    monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121316; --surface: #1a1b1f; --ink: #ececf1; --muted: #a6a9b4; --line: #33353d;
    --accent: #8fb6ff; --soft: #22304c; --tip: #ececf1; --tip-ink: #16171a;
    --shadow: none;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1480px; padding: 24px clamp(12px, 2.5vw, 36px) 40px;
  background: var(--page); color: var(--ink);
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  -webkit-text-size-adjust: 100%;
}
h1, h2, h3, p { margin: 0; }
h1 {
  font-size: 22px; font-weight: 650; line-height: 1.25; letter-spacing: -.01em;
  overflow-wrap: anywhere;
}
h2 { font-size: 17px; font-weight: 650; letter-spacing: -.005em; overflow-wrap: anywhere; }
h3 { font-size: 14px; font-weight: 650; }
bdi { white-space: pre-wrap; overflow-wrap: anywhere; }
[hidden] { display: none !important; }
.quiet { color: var(--muted); }
.unseen {
  position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap;
}
:focus { outline: none; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }

header {
  display: flex; flex-wrap: wrap; gap: 14px 32px; justify-content: space-between;
  align-items: end;
}
header > div:first-child { flex: 1 1 260px; min-width: 0; }
#tools { display: flex; flex-wrap: wrap; gap: 12px 24px; align-items: end; }
fieldset { border: 0; margin: 0; padding: 0; min-width: 0; }
legend, .caption { padding: 0; margin-bottom: 4px; font-size: 12px; color: var(--muted); }
.segments {
  display: inline-flex; padding: 2px; border: 1px solid var(--line); border-radius: 9px;
  background: var(--surface);
}
.segments label { position: relative; cursor: pointer; }
.segments input { position: absolute; inset: 0; margin: 0; opacity: 0; cursor: pointer; }
.segments span { display: block; padding: 4px 11px; border-radius: 7px; color: var(--muted); }
.segments input:checked + span { background: var(--soft); color: var(--ink); font-weight: 600; }
.segments input:focus-visible + span { outline: 2px solid var(--accent); outline-offset: 1px; }
#bar {
  display: block; width: 168px; height: 12px; border: 1px solid var(--line); border-radius: 4px;
}
#ends {
  display: flex; justify-content: space-between; margin-top: 3px; font: 12px/1.2 var(--numbers);
}
#nan { display: inline-flex; gap: 6px; align-items: center; font: 12px/1.2 var(--numbers); }
#nan i { width: 13px; height: 13px; border: 1px solid var(--line); border-radius: 4px; }

.card {
  background: var(--surface); border: 1px solid var(--line); border-radius: 14px;
  box-shadow: var(--shadow);
}
#heads {
  margin-top: 18px; padding: 12px 14px 12px 0; overflow: auto; max-height: max(240px, 46vh);
  scroll-padding: 12px 12px 12px 132px; overscroll-behavior-x: contain;
}
#heads [role=row] { display: flex; width: max-content; min-width: 100%; }
#heads [role=row] + [role=row] { margin-top: 8px; }
#heads [role=rowheader] {
  position: sticky; left: 0; z-index: 1; flex: none; width: 124px; padding: 6px 10px 6px 16px;
  display: flex; flex-direction: column; justify-content: center;
  background: var(--surface); font-weight: 600; overflow-wrap: anywhere;
}
#heads [role=rowheader] small { font-size: 12px; font-weight: 400; color: var(--muted); }
#heads [role=gridcell] {
  flex: none; width: calc(var(--thumb) + 16px); padding: 7px 7px 5px;
  border: 1px solid transparent; border-radius: 10px;
  cursor: pointer; text-align: center; user-select: none; -webkit-tap-highlight-color: transparent;
}
#heads [role=gridcell]:focus-visible { outline-offset: -2px; }
#heads [role=gridcell]:hover { background: var(--page); }
#heads [aria-selected=true] { background: var(--soft); border-color: var(--accent); }
#heads [aria-selected=true]:hover { background: var(--soft); }
.thumb {
  display: flex; width: var(--thumb); min-height: 24px; align-items: center;
  justify-content: center;
}
.thumb canvas { border-radius: 2px; image-rendering: pixelated; box-shadow: 0 0 0 1px var(--line); }
#heads [role=gridcell] span {
  display: block; margin-top: 5px; font-size: 12px; line-height: 1.3; color: var(--muted);
  overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}
#heads [role=gridcell] bdi { white-space: pre; }
#heads [aria-selected=true] span { color: var(--ink); font-weight: 600; }

#title {
  display: flex; gap: 12px; align-items: center; margin: 24px 0 12px; scroll-margin-top: 12px;
}
#title > div:first-child { flex: 1; min-width: 0; }
button {
  min-width: 34px; height: 34px; padding: 0 10px; border: 1px solid var(--line); border-radius: 9px;
  background: var(--surface); color: var(--ink); font: inherit; font-weight: 600; cursor: pointer;
  touch-action: manipulation;
}
button:hover { background: var(--soft); }
button:disabled { color: var(--muted); opacity: .55; cursor: default; background: var(--surface); }
.buttons { display: flex; gap: 6px; flex: none; }
#views { display: grid; grid-template-columns: minmax(0, 1.35fr) minmax(0, 1fr); gap: 16px; }
#views .card { padding: 14px 16px 16px; min-width: 0; }
.above {
  display: flex; gap: 12px; justify-content: space-between; align-items: start; min-height: 46px;
  margin-bottom: 8px;
}
.above p { font-size: 13px; color: var(--muted); }
.scroller {
  position: relative; overflow: auto; border-radius: 6px; overscroll-behavior-x: contain;
  scrollbar-width: thin; scrollbar-color: var(--muted) transparent;
}
.scroller canvas { position: sticky; left: 0; top: 0; display: block; }
.sheet { position: relative; }
#matrix .sheet { cursor: crosshair; }
#cell {
  position: absolute; outline: 2px solid var(--accent); box-shadow: 0 0 0 3.5px var(--surface);
  border-radius: 1px; pointer-events: none;
}
#lines [role=listbox] { position: absolute; top: 0; margin: 0; padding: 0; border-radius: 6px; }
#lines [role=listbox]:focus-visible { outline: none; }
#queries { left: 0; }
#keys { right: 0; }
#lines [role=option] {
  display: flex; gap: 8px; align-items: center; width: 100%; padding: 0 8px; border-radius: 6px;
  background: rgb(var(--data) / calc(var(--weight, 0) * .32)); cursor: default; user-select: none;
  -webkit-tap-highlight-color: transparent; white-space: nowrap;
}
#queries [role=option] { flex-direction: row-reverse; }
#lines [role=option] bdi { overflow: hidden; text-overflow: ellipsis; white-space: pre; }
#lines [role=option] output { margin-inline: auto 0; font: 12px/1 var(--numbers); }
#queries [role=option] output { margin-inline: 0 auto; }
#lines [aria-selected=true] {
  background: var(--soft); box-shadow: inset 0 0 0 1.5px var(--accent); font-weight: 600;
}
#lines [role=listbox]:focus-visible [aria-selected=true] {
  outline: 2px solid var(--accent); outline-offset: -2px;
}
#sides {
  display: flex; justify-content: space-between; padding-bottom: 4px; font-size: 12px;
  color: var(--muted);
}
#sides span { padding: 0 8px; }
#sides span:first-child { text-align: right; }
#tip {
  position: fixed; z-index: 9; left: 0; top: 0; width: max-content; max-width: min(280px, 80vw);
  padding: 8px 11px;
  border-radius: 9px; background: var(--tip); color: var(--tip-ink); pointer-events: none;
  box-shadow: 0 4px 16px rgb(0 0 0 / .25); font-size: 13px; line-height: 1.4;
}
#tip strong { display: block; font: 650 16px/1.35 var(--numbers); }
#tip span { display: block; }
#tip bdi { font-weight: 600; }
footer { margin-top: 20px; font-size: 13px; color: var(--muted); }
kbd {
  padding: 1px 5px; border: 1px solid var(--line); border-radius: 5px; background: var(--surface);
  font: 12px var(--numbers); color: var(--ink);
}

@media (max-width: 920px) {
  #views { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 560px) {
  body { padding-top: 16px; font-size: 15px; }
  #heads { padding: 10px 0; scroll-padding: 10px; }
  #heads [role=row] { flex-wrap: nowrap; padding: 22px 12px 0 6px; position: relative; }
  #heads [role=rowheader] {
    position: absolute; top: 0; left: 0; width: auto; padding: 0 12px; flex-direction: row;
    gap: 8px; align-items: baseline;
  }
  #views .card { padding: 12px; }
  .above { min-height: 68px; }
  #views, #heads { margin-inline: -4px; }
}
@media (pointer: coarse) {
  button { min-width: 44px; height: 44px; }
  .segments span { padding: 12px 13px; }
  footer { display: none; }
}
@media (prefers-reduced-motion: no-preference) {
  #heads [role=gridcell], button, .segments span {
    transition: background-color .12s, border-color .12s;
  }
}
@media (forced-colors: active) {
  #heads [aria-selected=true], #lines [aria-selected=true] {
    border-color: Highlight; outline: 2px solid Highlight;
  }
}
)css"
