// All that follows the threshold slider: numbers, which come from histograms of levels, and pictures, which
// come from the levels themselves.
(() => {
  const LEVELS = 256, OWN = null;
  if (!data.pictures.length) return;
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
    known = { counts, ious };
    gallery.show();
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

  let known;  // counts and IoUs of the images that are shown
  function showNumbers(root, number) {
    const { counts, ious } = known, image = data.pictures[number].point;
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

  const [TP, FP, FN, TN, UNCOUNTED] = ["--tp", "--fp", "--fn", "--tn", "--uncounted"].map(colourOf);
  const BLACK = [0, 0, 0], WHITE = [255, 255, 255];
  const TRUE = LEVELS, IGNORED = 2 * LEVELS;  // added to a level
  const palettes = new Map();
  function paletteAt(kind, level) {
    const key = kind + level;
    if (!palettes.has(key)) {
      palettes.set(key, paletteOf(3 * LEVELS, (i) => {
        const found = i % LEVELS >= level;
        if (kind === "found") return found ? WHITE : BLACK;
        return i >= IGNORED ? UNCOUNTED : i >= TRUE ? (found ? TP : FN) : (found ? FP : TN);
      }));
    }
    return palettes.get(key);
  }

  const decoded = new Map();  // by picture and run, while the picture is in sight
  function pixelsOf(number, run) {
    const key = `${number} ${run}`;
    if (!decoded.has(key)) {
      const picture = data.pictures[number];
      decoded.set(key, Promise.all([decode(picture.masks[picture.mask_of[run]]), decode(picture.found[run])])
        .then(([mask, levels]) => {
          const { width, height } = levels;
          const added = (truth) => truth === 255 ? TRUE : truth ? IGNORED : 0;
          return { width, height, numbers: Uint16Array.from(levels.pixels, (k, i) => k + added(mask.pixels[i])) };
        }));
    }
    return decoded.get(key);
  }

  async function draw(canvas, number) {
    const run = +runOf(canvas);
    if (canvas.dataset.drawn === String(levelOf(run))) return;
    const picture = await pixelsOf(number, run);
    const level = levelOf(run);  // asked after the wait, in which the slider may have moved
    if (canvas.dataset.drawn === String(level)) return;
    paint(canvas, picture, picture.numbers, paletteAt(canvas.dataset.kind, level));
    canvas.dataset.drawn = level;
  }

  // ---- controls ----

  for (const slider of sliders) slider.addEventListener("input", () => choose(+slider.value));
  for (const button of all("[data-level]")) {
    button.addEventListener("click", () => choose(button.dataset.level === "own" ? OWN : +button.dataset.level));
  }

  const gallery = openGallery({
    draw,
    forget: (number) => runs.forEach((_, run) => decoded.delete(`${number} ${run}`)),
    fill: showNumbers,
    order: (name) => (a, b) => name === "worst" ? a - b : b - a,
  });

  // Points lead to their cards. The Tab key stops at one of them; arrow keys go to the others.
  const links = points.filter((point) => point.localName === "a")
    .sort((a, b) => a.dataset.x - b.dataset.x || a.dataset.image - b.dataset.image);
  links.forEach((link, i) => {
    if (!i) link.setAttribute("tabindex", 0);
    link.addEventListener("click", (event) => {
      event.preventDefault();
      gallery.goTo(document.getElementById(`image-${link.dataset.image}`));
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
