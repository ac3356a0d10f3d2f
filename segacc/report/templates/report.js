"use strict";
// All that follows the threshold slider: numbers, which come from histograms of levels, and pictures, which
// come from the levels themselves.
(() => {
  const LEVELS = 256, OWN = null;
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!data.pictures.length) return;
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const runs = data.runs;

  // ---- numbers: tp, fp, fn, tn of all images together, and of each image that is shown ----

  const summed = (histogram) => {  // pixels at this level or higher
    const above = new Float64Array(LEVELS);
    for (let k = LEVELS - 1, sum = 0; k >= 0; k--) above[k] = sum += histogram[k];
    return above;
  };
  const ofAll = runs.map((run) => run.histogram.map(summed));
  const ofShown = runs.map((run) => run.histograms.map((image) => image.map(summed)));
  const countsOf = ([background, foreground], k) => {
    const tp = foreground[k], fp = background[k];
    return [tp, fp, foreground[0] - tp, background[0] - fp];
  };
  const iouOf = ([tp, fp, fn]) => tp + fp + fn > 0 ? tp / (tp + fp + fn) : 1;

  // ---- state ----

  let chosen = OWN;  // the level of the slider; with OWN, each run has the level of its own threshold
  const levelOf = (run) => chosen ?? runs[run].level;
  const text = (level) => (level / LEVELS).toFixed(3);

  let asked = false, waiting = false;
  const choose = (level) => {
    chosen = level;
    asked = true;
    if (!waiting) requestAnimationFrame(() => { waiting = false; show(); });
    waiting = true;
  };

  // ---- what is shown ----

  const sliders = all('input[type="range"]');
  const cards = all(".card");
  const points = all(".point"), outlines = all(".outline");
  const status = document.getElementById("said");
  let speaking;

  function show() {
    const mixed = chosen === OWN && new Set(runs.map((run) => run.level)).size > 1;
    const where = mixed ? "each its own" : text(levelOf(0));
    for (const slider of sliders) {
      slider.value = mixed ? LEVELS / 2 : levelOf(0);
      slider.setAttribute("aria-valuetext", where);
      slider.classList.toggle("mixed", mixed);
    }
    for (const at of all(".at")) at.textContent = where;
    for (const button of all("[data-level]")) {
      const its = button.dataset.level === "own" ? chosen === OWN : chosen === +button.dataset.level;
      button.setAttribute("aria-pressed", its || (runs.length === 1 && button.dataset.level === String(levelOf(0))));
    }
    const counts = ofShown.map((images, run) => images.map((image) => countsOf(image, levelOf(run))));
    const ious = counts.map((ofRun) => ofRun.map(iouOf));
    showTotals(where);
    showCharts(ious, mixed);
    for (const card of cards) showNumbers(card, data.pictures[card.dataset.picture].point, counts, ious);
    if (large.open) showNumbers(content, data.pictures[current.dataset.picture].point, counts, ious);
    draw();
  }

  function value(element, number, digits) {
    element.value = number;
    element.textContent = number.toFixed(digits);
  }

  function showTotals(where) {
    const sentences = [];
    runs.forEach((run, r) => {
      const total = countsOf(ofAll[r], levelOf(r));
      const pixels = total.reduce((a, b) => a + b);
      const iou = iouOf(total), mean = run.iou_image[levelOf(r)];
      const line = one(`.readout [data-run="${r}"]`);
      value(one(".iou", line), iou, 4);
      value(one(".iou-image", line), mean, 4);
      const own = one(".own", line);
      if (own) own.textContent = `at ${text(levelOf(r))}`;
      for (const cell of all(`[data-run="${r}"][data-count]`)) {
        cell.textContent = total[cell.dataset.count].toLocaleString("en-US");
      }
      for (const cell of all(`[data-run="${r}"][data-share]`)) {
        cell.textContent = `${(100 * total[cell.dataset.share] / pixels).toFixed(2)} %`;
      }
      const who = runs.length > 1 ? `${run.label}: ` : "";
      sentences.push(`${who}iou ${iou.toFixed(4)}, iou_image ${mean.toFixed(4)}`);
    });
    clearTimeout(speaking);  // screen readers read the numbers only when the slider has come to rest
    if (!asked) return;  // the page was just opened
    speaking = setTimeout(() => { status.textContent = `Threshold ${where}. ${sentences.join(". ")}.`; }, 700);
  }

  function showCharts(ious, mixed) {
    const { left, top, across, down, bins } = data.plot;
    const now = one("#thresholds .now");
    now.setAttribute("transform", `translate(${across * levelOf(0) / LEVELS} 0)`);
    now.toggleAttribute("hidden", mixed);
    for (const point of points) {
      const iou = ious[point.dataset.run][point.dataset.image];
      point.setAttribute("transform", `translate(${point.dataset.x} ${(top + down * (1 - iou)).toFixed(1)})`);
      const title = one("title", point);
      if (title) title.textContent = `${point.dataset.name}: ${iou.toFixed(3)}`;
    }
    const heights = runs.map((run, r) => run.bins[levelOf(r)]);
    const most = Math.max(...heights.flat());
    let high = 2;  // becomes an even round number, since half of it is a tick
    for (let power = 1; high < most; power *= 10) {
      high = [2, 3, 4, 5, 6, 8, 10].map((i) => i * power).find((i) => i >= most && i % 2 === 0) ?? high;
    }
    all("#ious .tick.y").forEach((tick, i) => { tick.textContent = high * i / 2; });
    outlines.forEach((outline, r) => {
      let d = `M${left} ${top + down}`;
      heights[r].forEach((height, bin) => {
        d += `V${(top + down * (1 - height / high)).toFixed(1)}H${(left + across * (bin + 1) / bins).toFixed(1)}`;
      });
      outline.setAttribute("d", `${d}V${top + down}`);
    });
  }

  function showNumbers(root, image, counts, ious) {
    runs.forEach((_, run) => {
      const pair = one(`.pair[data-run="${run}"]`, root);
      value(one(".iou", pair), ious[run][image], 3);
      const [tp, fp, fn, tn] = counts[run][image];
      const pixels = tp + fp + fn + tn;  // several runs may have different sizes, so these get shares
      const [false1, false0] = [fp, fn].map((count) => runs.length > 1
        ? `${(100 * count / pixels).toFixed(1)} %` : count.toLocaleString("en-US"));
      one(".wrong", pair).textContent = `${false1} FP, ${false0} FN${runs.length > 1 ? "" : " px"}`;
    });
  }

  // ---- pictures ----

  // Not decoded by a canvas: some browsers add noise to what is read from one, against fingerprinting.
  async function decode(base64) {  // 8-bit gray PNG, not interlaced -> its pixels
    const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const width = view.getUint32(16), height = view.getUint32(20);
    const parts = [];
    for (let at = 8, size; at < bytes.length; at += 12 + size) {
      size = view.getUint32(at);
      if (view.getUint32(at + 4) === 0x49444154) parts.push(bytes.subarray(at + 8, at + 8 + size));
    }
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    const packed = new Uint8Array(await new Response(stream).arrayBuffer());
    const pixels = new Uint8Array(width * height);
    for (let y = 0, from = 0, to = 0; y < height; y++) {
      const filter = packed[from++];
      for (let x = 0; x < width; x++, to++) {
        const left = x ? pixels[to - 1] : 0, up = y ? pixels[to - width] : 0;
        let guess = 0;
        if (filter === 1) guess = left;
        else if (filter === 2) guess = up;
        else if (filter === 3) guess = (left + up) >> 1;
        else if (filter === 4) {  // Paeth
          const corner = x && y ? pixels[to - width - 1] : 0;
          const a = Math.abs(up - corner), b = Math.abs(left - corner), c = Math.abs(left + up - 2 * corner);
          guess = a <= b && a <= c ? left : b <= c ? up : corner;
        }
        pixels[to] = packed[from++] + guess;
      }
    }
    return { width, height, pixels };
  }

  const style = getComputedStyle(document.documentElement);
  const [TP, FP, FN, TN] = ["--tp", "--fp", "--fn", "--tn"].map((name) => {
    const hex = style.getPropertyValue(name).trim();
    return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  });
  const BLACK = [0, 0, 0], WHITE = [255, 255, 255];
  const palettes = new Map();
  function paletteOf(kind, level) {  // the bytes of a pixel, by truth * 256 + its level
    const key = kind + level;
    if (!palettes.has(key)) {
      const bytes = new Uint8ClampedArray(4 * 2 * LEVELS).fill(255);
      for (let i = 0; i < 2 * LEVELS; i++) {
        const truth = i >= LEVELS, found = i % LEVELS >= level;
        const colour = kind === "found" ? (found ? WHITE : BLACK)
          : truth ? (found ? TP : FN) : (found ? FP : TN);
        bytes.set(colour, 4 * i);
      }
      palettes.set(key, new Uint32Array(bytes.buffer));
    }
    return palettes.get(key);
  }

  const decoded = new Map();  // by picture and run, while the picture is in sight
  function pixelsOf(number, run) {
    const key = `${number} ${run}`;
    if (!decoded.has(key)) {
      const picture = data.pictures[number];
      decoded.set(key, Promise.all([decode(picture.masks[picture.mask_of[run]]), decode(picture.levels[run])])
        .then(([mask, levels]) => {
          const { width, height } = levels;
          return { width, height, index: Uint16Array.from(levels.pixels, (k, i) => k + (mask.pixels[i] ? LEVELS : 0)) };
        }));
    }
    return decoded.get(key);
  }

  async function drawOn(canvas, number, run) {
    const { width, height, index } = await pixelsOf(number, run);
    const level = levelOf(run);  // asked after the wait, in which the slider may have moved
    if (canvas.dataset.drawn === String(level)) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    const pixels = new Uint32Array(picture.data.buffer), palette = paletteOf(canvas.dataset.kind, level);
    for (let i = 0; i < index.length; i++) pixels[i] = palette[index[i]];
    context.putImageData(picture, 0, 0);
    canvas.dataset.drawn = level;
  }

  function drawAll(root, number) {
    for (const canvas of all("canvas", root)) {
      const run = +canvas.closest(".pair").dataset.run;
      if (canvas.dataset.drawn === String(levelOf(run))) continue;
      drawOn(canvas, number, run).catch((error) => {
        one(".wrong", canvas.closest(".pair")).textContent = `cannot be drawn: ${error.message}`;
      });
    }
  }

  const inSight = new Set();  // only cards in sight are drawn
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) inSight.add(target);
      else {
        inSight.delete(target);
        runs.forEach((_, run) => decoded.delete(`${target.dataset.picture} ${run}`));
      }
    }
    draw();
  }, { rootMargin: "300px" });

  function draw() {
    for (const card of inSight) drawAll(card, +card.dataset.picture);
    if (large.open) drawAll(content, +current.dataset.picture);
  }

  // ---- the large view ----

  const large = document.getElementById("large"), content = one(".content", large);
  let current = null;
  const inOrder = () => all(".card").filter((card) => !card.hidden);

  function enlarge(card) {
    current = card;
    const order = inOrder(), place = order.indexOf(card);
    one("h2 bdi", large).textContent = one(".open", card).textContent;
    one(".place", large).textContent = `${place + 1} of ${order.length}`;
    // A button that is disabled would lose the focus.
    one(".previous", large).setAttribute("aria-disabled", place === 0);
    one(".next", large).setAttribute("aria-disabled", place === order.length - 1);
    const copy = one(".pairs", card).cloneNode(true);
    for (const canvas of all("canvas", copy)) delete canvas.dataset.drawn;  // the copy of a canvas is empty
    content.replaceChildren(copy);
    if (!large.open) {
      large.showModal();
      one("h2", large).focus();
    }
    drawAll(content, +card.dataset.picture);
  }
  function step(by) {
    const order = inOrder(), next = order[order.indexOf(current) + by];
    if (next) enlarge(next);
  }
  one(".previous", large).addEventListener("click", () => step(-1));
  one(".next", large).addEventListener("click", () => step(1));
  one(".close", large).addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("keydown", (event) => {
    if (event.target.type === "range" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else return;
    event.preventDefault();
  });
  large.addEventListener("close", () => {
    content.replaceChildren();
    current.scrollIntoView({ block: "nearest" });
    one(".open", current).focus({ preventScroll: true });
  });

  // ---- controls ----

  for (const slider of sliders) slider.addEventListener("input", () => choose(+slider.value));
  for (const button of all("[data-level]")) {
    button.addEventListener("click", () => choose(button.dataset.level === "own" ? OWN : +button.dataset.level));
  }
  for (const card of cards) {
    observer.observe(card);
    card.addEventListener("click", () => enlarge(card));
  }

  const names = cards.map((card) => one(".open", card).textContent);
  const orders = {
    worst: (a, b) => a - b,
    best: (a, b) => b - a,
    name: (a, b) => names[a].localeCompare(names[b], "en", { numeric: true }),
  };
  document.getElementById("order").addEventListener("change", (event) => {
    const order = cards.map((_, i) => i).sort(orders[event.target.value]);
    one(".cards").append(...order.map((i) => cards[i]));
  });
  const filter = document.getElementById("filter");
  const filterCards = () => {
    const wanted = filter.value.trim().toLowerCase();
    cards.forEach((card, i) => { card.hidden = !names[i].toLowerCase().includes(wanted); });
    document.getElementById("found").textContent = wanted ? `${inOrder().length} of ${cards.length} images` : "";
  };
  filter.addEventListener("input", filterCards);

  // Points lead to their cards. The Tab key stops at one of them; arrow keys go to the others.
  const links = points.filter((point) => point.localName === "a")
    .sort((a, b) => a.dataset.x - b.dataset.x || a.dataset.image - b.dataset.image);
  links.forEach((link, i) => {
    if (!i) link.setAttribute("tabindex", 0);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      const card = document.getElementById(`image-${link.dataset.image}`);
      if (card.hidden) { filter.value = ""; filterCards(); }
      card.scrollIntoView({ block: "center" });
      one(".open", card).focus({ preventScroll: true });
    });
    link.addEventListener("keydown", (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const next = links[i + by];
      if (!by) return;
      event.preventDefault();
      if (!next) return;
      link.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    });
  });

  show();
})();
