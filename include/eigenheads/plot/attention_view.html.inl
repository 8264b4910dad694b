// SPDX-License-Identifier: MIT
// What stands behind "<header><div><h1>title</h1>" in the pages of attention_view.hpp.
R"html(
<p class="quiet" id="summary">Loading the weights …</p>
<noscript><p>This page draws with JavaScript, which is switched off.</p></noscript>
</div>
<div id="tools" hidden>
<fieldset>
<legend>Colour scale</legend>
<div class="segments">
<label><input type="radio" name="scale" value="each"><span>Each head</span></label>
<label><input type="radio" name="scale" value="all"><span>All heads</span></label>
</div>
</fieldset>
<fieldset>
<legend>Shading</legend>
<div class="segments">
<label><input type="radio" name="shading" value="linear" checked><span>Linear</span></label>
<label><input type="radio" name="shading" value="root"><span>Root</span></label>
</div>
</fieldset>
<div>
<div class="caption" id="scale-caption">Weight</div>
<canvas id="bar" width="255" height="1" role="img" aria-labelledby="scale-caption ends"></canvas>
<div id="ends"><span></span> <span></span> <span></span></div>
</div>
<div id="nan" hidden><i></i>NaN</div>
</div>
</header>
<main>
<p id="nothing" hidden>There is nothing to look at: the stack has no heads.</p>
<div class="card" id="heads" role="grid" aria-label="Heads, a row for each layer" hidden></div>
<section id="detail" aria-labelledby="name" hidden>
<div id="title">
<div><h2 id="name"></h2><p class="quiet" id="shape"></p></div>
<div class="buttons">
<button type="button" id="previous" aria-label="Previous head">←</button>
<button type="button" id="next" aria-label="Next head">→</button>
</div>
</div>
<div id="views">
<div class="card">
<div class="above">
<div><h3>Matrix</h3><p id="matrix-hint"></p></div>
<div class="buttons" id="zoom">
<button type="button" id="smaller" aria-label="Smaller cells">−</button>
<button type="button" id="larger" aria-label="Larger cells">+</button>
<button type="button" id="fit">Fit</button>
</div>
</div>
<div class="scroller" id="matrix" role="grid" tabindex="0" aria-activedescendant="">
<div class="sheet"><canvas aria-hidden="true"></canvas>
<div role="row"><div role="gridcell" id="cell" hidden></div></div>
</div>
</div>
</div>
<div class="card">
<div class="above">
<div><h3>Lines</h3><p id="lines-hint"></p></div>
</div>
<div id="sides"><span>Queries</span><span>Keys</span></div>
<div class="scroller" id="lines">
<div class="sheet"><canvas aria-hidden="true"></canvas>
<div id="queries" role="listbox" tabindex="0" aria-label="Queries"></div>
<div id="keys" role="listbox" tabindex="0" aria-label="Keys"></div>
</div>
</div>
</div>
</div>
</section>
</main>
<footer id="help" hidden><kbd>Tab</kbd> goes from part to part, arrow keys move within one,
<kbd>Enter</kbd> opens a head, <kbd>Esc</kbd> lets go.</footer>
<div id="tip" aria-hidden="true" hidden></div>
<div class="unseen" id="said" role="status"></div>
)html"
