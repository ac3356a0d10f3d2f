// All that follows the class that is chosen: the pictures show it alone, the numbers are its own, and the
// images with the worst of it come first.
(() => {
  if (!data.pictures.length) return;
  const { classes, runs, pictures } = data;
  const IGNORE = 255, ALL = -1;
  const TRUTH = 256;  // times the true class, plus the predicted one: the number of a pixel
  const percent = (share) => `${(100 * share).toFixed(1)} %`;

  let chosen = ALL;
  const selects = all("select.of-class"), status = document.getElementById("said");
  const legend = all(".names [data-class]");
  const pointed = document.getElementById("pointed");

  // ---- numbers ----

  const iouOf = ([tp, fp, fn]) => tp / (tp + fp + fn);
  function iousOf(number) {  // of the runs; NaN where the class is neither in the mask nor was predicted
    const picture = pictures[number];
    if (chosen === ALL) return picture.iou;
    return picture.counts.map((counts) => counts[chosen] ? iouOf(counts[chosen]) : NaN);
  }
  function meanIou(number) {
    const known = iousOf(number).filter((iou) => !Number.isNaN(iou));
    return known.length ? known.reduce((a, b) => a + b) / known.length : NaN;
  }

  function fill(root, number) {
    const picture = pictures[number], ious = iousOf(number);
    runs.forEach((_, run) => {
      const pair = one(`.pair[data-run="${run}"]`, root), wrong = one(".wrong", pair);
      one(".name", pair).textContent = chosen === ALL ? "mIoU" : "IoU";
      if (Number.isNaN(ious[run])) {
        one(".iou", pair).removeAttribute("value");
        one(".iou", pair).textContent = "–";
        wrong.textContent = "neither there nor predicted";
        return;
      }
      value(one(".iou", pair), ious[run], 3);
      if (chosen === ALL) {
        const sums = Object.values(picture.counts[run]).reduce(([a, b], [tp, , fn]) => [a + tp, b + fn], [0, 0]);
        wrong.textContent = `${percent(sums[1] / Math.max(1, sums[0] + sums[1]))} of pixels wrong`;
      } else {
        const [, fp, fn] = picture.counts[run][chosen];
        wrong.textContent = `${fp.toLocaleString("en-US")} FP, ${fn.toLocaleString("en-US")} FN px`;
      }
    });
  }

  function showTotals() {
    const sentences = runs.map((run, r) => {
      const line = one(`.readout [data-run="${r}"]`);
      const scores = chosen === ALL ? run.scores : run.classes[chosen];
      const name = chosen === ALL ? "miou" : "iou";
      const others = chosen === ALL ? ["iou_image", "accuracy"] : ["precision", "recall"];
      const numbers = others.map((other) => `${other} ${scores[other]?.value?.toFixed(4) ?? "–"}`).join(", ");
      one(".name", line).textContent = name;
      if (scores.iou.value === null) {
        one(".iou", line).removeAttribute("value");
        one(".iou", line).textContent = "–";
      } else value(one(".iou", line), scores.iou.value, 4);
      one(".others", line).textContent = numbers;
      return `${runs.length > 1 ? `${run.label}: ` : ""}${name} ${one(".iou", line).textContent}, ${numbers}`;
    });
    return sentences.join(". ");
  }

  // ---- pictures ----

  const [TP, FP, FN, TN, UNCOUNTED] = ["--tp", "--fp", "--fn", "--tn", "--uncounted"].map(colourOf);
  const bytesOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  const nothing = bytesOf(data.ignored);
  let colours = classes.map((one) => bytesOf(one.colour));
  const OTHER = [224, 224, 224], OTHER_OF_DARK = [40, 40, 40];
  function colourAlone(number) {  // other classes are dark where the chosen one is light
    if (number === IGNORE) return chosen === ALL ? nothing : UNCOUNTED;
    if (chosen === ALL || number === chosen) return colours[number] ?? nothing;
    const [red, green, blue] = colours[chosen];
    return 0.3 * red + 0.59 * green + 0.11 * blue > 150 ? OTHER_OF_DARK : OTHER;
  }
  function errorColour(truth, found) {
    if (truth === IGNORE) return UNCOUNTED;
    if (chosen === ALL) return truth === found ? TP : FP;
    return truth === chosen ? (found === chosen ? TP : FN) : (found === chosen ? FP : TN);
  }
  const palettes = new Map();
  function palette(kind) {
    const key = `${kind} ${chosen}`;
    if (!palettes.has(key)) {
      palettes.set(key, kind === "errors"
        ? paletteOf(TRUTH * TRUTH, (i) => errorColour(i >> 8, i & 255))
        : paletteOf(TRUTH, colourAlone));
      if (palettes.size > 12) palettes.delete(palettes.keys().next().value);
    }
    return palettes.get(key);
  }

  const decoded = new Map();  // by picture and kind, while the picture is in sight
  function decodedOf(number, kind, run) {
    const key = `${number} ${kind} ${run}`, picture = pictures[number];
    if (!decoded.has(key)) {
      decoded.set(key, decode(kind === "found" ? picture.found[run] : picture.masks[picture.mask_of[run]]));
    }
    return decoded.get(key);
  }
  function forget(number) {
    for (const key of decoded.keys()) if (key.startsWith(`${number} `)) decoded.delete(key);
  }

  async function draw(canvas, number) {
    const kind = canvas.dataset.kind, run = runOf(canvas) ?? 0;
    if (canvas.dataset.drawn === String(chosen)) return;
    const picture = await decodedOf(number, kind === "found" ? kind : "truth", run);
    const found = kind === "errors" ? await decodedOf(number, "found", run) : null;
    if (canvas.dataset.drawn === String(chosen)) return;  // asked after the wait, too
    const numbers = found ? Uint16Array.from(picture.pixels, (truth, i) => truth * TRUTH + found.pixels[i]) : picture.pixels;
    paint(canvas, picture, numbers, palette(kind));
    canvas.dataset.drawn = chosen;
  }

  // ---- the class under the pointer ----

  async function point(event) {
    const picture = event.target.closest(".pair figure :is(img, canvas)");
    if (!picture) { pointed.hidden = true; return; }
    const number = gallery.pictureAt(picture), box = picture.getBoundingClientRect();
    const shown = runOf(picture) === undefined ? runs.map((_, run) => run) : [+runOf(picture)];
    const truth = await decodedOf(number, "truth", shown[0]);
    const found = await Promise.all(shown.map((run) => decodedOf(number, "found", run)));
    // A picture alone may have empty edges, since its box is as wide as the window.
    const scale = Math.min(box.width / truth.width, box.height / truth.height);
    const at = ({ width, height, pixels }) => {
      const x = Math.floor(((event.clientX - box.left - box.width / 2) / scale / truth.width + 0.5) * width);
      const y = Math.floor(((event.clientY - box.top - box.height / 2) / scale / truth.height + 0.5) * height);
      return x >= 0 && y >= 0 && x < width && y < height ? pixels[y * width + x] : null;
    };
    if (at(truth) === null) { pointed.hidden = true; return; }
    const nameOf = (value) => classes[value]?.name ?? "not counted";
    const lines = [`truth: ${nameOf(at(truth))}`];
    found.forEach((one, i) => {
      lines.push(`${runs.length > 1 ? runs[shown[i]].label : "prediction"}: ${nameOf(at(one))}`);
    });
    pointed.replaceChildren(...lines.map((line) => {
      const row = document.createElement("span");
      row.textContent = line;
      return row;
    }));
    (picture.closest("dialog") ?? one("#gallery")).append(pointed);  // nothing is above an open dialog
    pointed.hidden = false;
    const { width, height } = pointed.getBoundingClientRect();
    const right = event.clientX + 16 + width < innerWidth, below = event.clientY + 16 + height < innerHeight;
    // A style that a script sets is not one that the page's policy forbids.
    pointed.style.left = `${Math.max(0, right ? event.clientX + 16 : event.clientX - 16 - width)}px`;
    pointed.style.top = `${below ? event.clientY + 16 : event.clientY - 16 - height}px`;
  }
  document.addEventListener("pointermove", point);
  document.addEventListener("pointerdown", point);
  document.addEventListener("scroll", () => { pointed.hidden = true; }, { passive: true });

  // ---- controls ----

  const gallery = openGallery({
    draw, forget, fill,
    order: (name) => {
      const ious = pictures.map((_, number) => meanIou(number));
      return (a, b) => name === "worst" ? ious[a] - ious[b] || a - b : ious[b] - ious[a] || b - a;
    },
    isShown: (number) => !Number.isNaN(meanIou(number)),
  });

  function choose(number) {
    chosen = number;
    for (const select of selects) select.value = chosen === ALL ? "" : chosen;
    document.documentElement.classList.toggle("one-class", chosen !== ALL);
    for (const button of legend) button.setAttribute("aria-pressed", +button.dataset.class === chosen);
    const numbers = showTotals();
    gallery.filterCards();
    gallery.sort();
    gallery.show();
    return `${chosen === ALL ? "All classes" : classes[chosen].name}. ${numbers}.`;
  }
  function chooseAloud(number) {
    status.textContent = choose(number);
    const cards = one(".cards");  // in another order now
    if (cards.getBoundingClientRect().top < 0) cards.scrollIntoView();
  }
  for (const select of selects) {
    select.addEventListener("change", () => chooseAloud(select.value === "" ? ALL : +select.value));
  }
  for (const button of legend) {
    button.addEventListener("click", () => chooseAloud(+button.dataset.class === chosen ? ALL : +button.dataset.class));
  }
  document.getElementById("own-colours")?.addEventListener("change", (event) => {
    const shown = classes.map((one) => event.target.checked ? one.own : one.colour);
    colours = shown.map(bytesOf);
    for (const shape of all("[data-colour]")) shape.setAttribute("fill", shown[shape.dataset.colour]);
    palettes.clear();
    for (const canvas of all("canvas")) delete canvas.dataset.drawn;
    gallery.show();
  });
  for (const link of all("a[data-class]")) {
    link.addEventListener("click", () => chooseAloud(+link.dataset.class));
  }
  choose(ALL);
})();
