"use strict";
// What the pages of a report share: pictures, the cards of the gallery, and the large view of one.

const data = JSON.parse(document.getElementById("data").textContent);
const one = (selector, root = document) => root.querySelector(selector);
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

function value(element, number, digits) {
  element.value = number;
  element.textContent = number.toFixed(digits);
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

const colourOf = (name) => {  // of a variable of the style sheet: red, green, blue
  const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
};

function paletteOf(size, colour) {  // the bytes of a pixel, by its number
  const bytes = new Uint8ClampedArray(4 * size).fill(255);
  for (let i = 0; i < size; i++) bytes.set(colour(i), 4 * i);
  return new Uint32Array(bytes.buffer);
}

function paint(canvas, { width, height }, numbers, palette) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const pixels = new Uint32Array(picture.data.buffer);
  for (let i = 0; i < numbers.length; i++) pixels[i] = palette[numbers[i]];
  context.putImageData(picture, 0, 0);
}

const runOf = (element) => element.closest("[data-run]")?.dataset.run;  // none: the image or its truth

// ---- the gallery ----

// Makes cards work, and returns what the page asks of them.
//   draw(canvas, number)   draws a canvas of a picture, if it is not drawn already; a promise
//   forget(number)         is called when a picture is out of sight
//   fill(root, number)     writes the numbers of a picture into its card or its large view
//   order(name)            how two cards, by number, are sorted
//   isShown(number)        whether the page has a reason to show a card
function openGallery({ draw, forget, fill, order, isShown = () => true }) {
  const cards = all(".card");
  const large = document.getElementById("large"), content = one(".content", large);
  let current = null;

  function drawAll(root, number) {
    for (const canvas of all("canvas", root)) {
      draw(canvas, number).catch((error) => {
        const said = one(".wrong", canvas.closest(".pair")) ?? one(".wrong", root);
        said.textContent = `cannot be drawn: ${error.message}`;
      });
    }
  }
  const inSight = new Set();  // only cards in sight are drawn
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting) inSight.add(target);
      else {
        inSight.delete(target);
        forget(target.dataset.picture);
      }
    }
    drawInSight();
  }, { rootMargin: "300px" });
  function drawInSight() {
    for (const card of inSight) drawAll(card, +card.dataset.picture);
    if (large.open) drawAll(content, +current.dataset.picture);
  }
  function show() {
    for (const card of cards) fill(card, +card.dataset.picture);
    if (large.open) fill(content, +current.dataset.picture);
    drawInSight();
  }

  // the large view
  const inOrder = () => all(".card").filter((card) => !card.hidden);
  function enlarge(card) {
    current = card;
    const shown = inOrder(), place = shown.indexOf(card);
    one("h2 bdi", large).textContent = one(".open", card).textContent;
    one(".place", large).textContent = `${place + 1} of ${shown.length}`;
    // A button that is disabled would lose the focus.
    one(".previous", large).setAttribute("aria-disabled", place === 0);
    one(".next", large).setAttribute("aria-disabled", place === shown.length - 1);
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
    const shown = inOrder(), next = shown[shown.indexOf(current) + by];
    if (next) enlarge(next);
  }
  const views = all("[data-view]", large);
  function view(chosen) {
    content.dataset.only = chosen;
    for (const button of views) button.setAttribute("aria-pressed", button.dataset.view === chosen);
  }
  for (const button of views) button.addEventListener("click", () => view(button.dataset.view));
  one(".previous", large).addEventListener("click", () => step(-1));
  one(".next", large).addEventListener("click", () => step(1));
  one(".close", large).addEventListener("click", () => large.close());
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("keydown", (event) => {
    if (["range", "select-one"].includes(event.target.type)) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    else if (views[event.key - 1]) view(views[event.key - 1].dataset.view);
    else return;
    event.preventDefault();
  });
  large.addEventListener("close", () => {
    content.replaceChildren();
    current.scrollIntoView({ block: "nearest" });
    one(".open", current).focus({ preventScroll: true });
  });
  for (const card of cards) {
    observer.observe(card);
    card.addEventListener("click", () => enlarge(card));
  }

  // order and filter
  const names = cards.map((card) => one(".open", card).textContent);
  const chosenOrder = document.getElementById("order"), filter = document.getElementById("filter");
  const byName = (a, b) => names[a].localeCompare(names[b], "en", { numeric: true });
  function sort() {
    const places = cards.map((_, i) => i);
    places.sort(chosenOrder.value === "name" ? byName : order(chosenOrder.value));
    one(".cards").append(...places.map((i) => cards[i]));
  }
  function filterCards() {
    const wanted = filter.value.trim().toLowerCase();
    cards.forEach((card, i) => { card.hidden = !names[i].toLowerCase().includes(wanted) || !isShown(i); });
    const shown = inOrder().length;
    const isAll = shown === cards.length && !wanted;
    document.getElementById("found").textContent = isAll ? "" : `${shown} of ${cards.length} images`;
  }
  chosenOrder.addEventListener("change", sort);
  filter.addEventListener("input", filterCards);

  return {
    show, sort, filterCards,
    goTo(card) {
      if (card.hidden) { filter.value = ""; filterCards(); }
      card.scrollIntoView({ block: "center" });
      one(".open", card).focus({ preventScroll: true });
    },
    pictureAt: (element) => +(element.closest(".card") ?? current).dataset.picture,
  };
}
