// What the report does beside its charts: shows the crops of what is pointed at, and filters the
// gallery.

// Charts

// What a chart answers when it is drawn for the first time.
function wire(element) {
  element.on("plotly_click", ({ points: [point], event }) => {
    showCell(element.dataset.chart, point);
    showTip(element.dataset.chart, point, event); // a finger does not hover
  });
  element.on("plotly_hover", ({ points: [point], event }) => showTip(element.dataset.chart, point, event));
  element.on("plotly_unhover", () => (tip.hidden = true));
}

function choose(select) {
  const start = select.dataset.for;
  for (const element of all(".chart").filter((chart) => chart.dataset.chart.startsWith(start))) {
    // of a panel, "features-1-PCA", the number of the run stays
    const run = "panels" in select.dataset ? element.dataset.chart.slice(start.length).match(/^\d+-/)[0] : "";
    element.dataset.chart = start + run + select.value;
    if (drawn.has(element)) draw(element);
  }
}

// Crops

const tip = document.getElementById("tip");

function crop(tile) {
  const place = make("span", { className: "crop" });
  place.style.backgroundPosition = `${-(tile % page.columns) * 96}px ${-Math.floor(tile / page.columns) * 96}px`;
  if (tile === null) place.style.backgroundImage = "none";
  return place;
}

function showTip(id, point, event) {
  if (id.startsWith("features-") && point.customdata) {
    const [tile, image, label] = point.customdata;
    tip.replaceChildren(crop(tile), make("span", { textContent: `${page.labels[label]}, ${page.files[image]}` }));
  } else if (id.startsWith("confusion-")) {
    const [row, column] = point.pointNumber;
    const counts = page.matrices[id.split("-")[1]][row];
    const share = counts[column] / Math.max(1, counts.reduce((sum, count) => sum + count, 0));
    tip.textContent = `${inWords(row, column)}: ${counts[column]}, ${(100 * share).toFixed(1)} % of the row`;
  } else return;
  tip.hidden = false;
  const { clientX: x, clientY: y } = event.touches?.[0] ?? event.changedTouches?.[0] ?? event;
  tip.style.left = Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 4)) + "px";
  tip.style.top = Math.max(4, y + 14 + tip.offsetHeight > innerHeight ? y - 14 - tip.offsetHeight : y + 14) + "px";
}

function inWords(row, column) {
  const background = page.labels.length - 1;
  if (row === background && column === background) return "nothing";
  if (column === background) return `${page.labels[row]}, not found`;
  if (row === background) return `${page.labels[column]} on no object, or on one that has a box`;
  return `${page.labels[row]}` + (row === column ? ", found" : ` taken for ${page.labels[column]}`);
}

function showChosen() {
  const [run, row, column] = ["run", "row", "column"].map((name) => document.getElementById("cell-" + name)?.value ?? 0);
  showCrops(Number(run), `${row}-${column}`);
}

function showCell(id, point) {
  if (id.startsWith("confusion-")) showCrops(Number(id.split("-")[1]), point.pointNumber.join("-"));
}

function showCrops(run, cell) {
  const [row, column] = cell.split("-").map(Number);
  const shown = page.cells[run][cell] || [];
  const count = page.matrices[run][row][column];
  const tray = document.getElementById("tray");
  const part = shown.length < count ? `${shown.length} of ${count} are in this file` : `${count}`;
  tray.querySelector("h3").textContent = (page.runs.length > 1 ? page.runs[run] + ": " : "") + `${inWords(row, column)} (${part})`;
  tray.querySelector(".crops").replaceChildren(
    ...shown.map(([tile, image, score]) => {
      const words = score === null ? page.files[image] : `${score.toFixed(2)}, ${page.files[image]}`;
      return make("figure", {}, [crop(tile), make("span", { textContent: words })]);
    }),
  );
  tray.hidden = false;
  for (const [name, value] of Object.entries({ run, row, column })) {
    const select = document.getElementById("cell-" + name);
    if (select) select.value = value;
  }
}

// Gallery

const gallery = document.getElementById("images");
const filters = ["class", "kind", "run"].map((id) => document.getElementById(id));
const WRONG = new Set(page.kinds);
let shownImages = 0;

function chosen() {
  const [label, kind, run] = filters.map((filter) => (filter ? filter.value : ""));
  const runs = run === "" ? page.runs.map((_, k) => k) : [Number(run)];
  return { label: Number(label), kind, runs };
}

// Whether an error is of the chosen class, as it was called or as it is, and of the chosen kind.
function fits({ label, kind }, called, meant, of) {
  return (!label || label === called || label === meant) && (!kind || kind === of);
}

function countErrors(image, choice) {
  const inRun = ({ found, missed }) =>
    found.filter((row) => WRONG.has(row[6]) && fits(choice, row[4], row[7], row[6])).length +
    missed.filter((row) => fits(choice, row[4], 0, "miss")).length;
  return choice.runs.reduce((sum, k) => sum + inRun(image.runs[k]), 0);
}

function countAllErrors(choice) {
  const rows = choice.runs.flatMap((k) => page.errors[k]).filter((row) => fits(choice, ...row));
  return rows.reduce((sum, row) => sum + row[3], 0);
}

function overlay(image, rows) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const scale = 512 / image.width; // so that letters are as large on every image
  svg.setAttribute("viewBox", `0 0 512 ${image.height * scale}`);
  const put = (tag, className, attributes, words) => {
    const element = document.createElementNS(svg.namespaceURI, tag);
    element.setAttribute("class", className);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (words !== undefined) element.textContent = words;
    svg.append(element);
  };
  rows = rows.map((row) => ({ ...row, box: row.box.map((x) => x * scale) }));
  for (const { box: [x1, y1, x2, y2], className } of rows)
    put("rect", className, { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) });
  for (const { box: [x1, y1, x2, y2], className, words } of rows) {
    // Names of small boxes would hide them until the picture is large.
    const size = Math.max(x2 - x1, y2 - y1) < 50 ? " small" : "";
    const right = x1 > 256; // words that begin on the right would leave the picture
    const place = { x: right ? Math.min(510, x2) : Math.max(2, x1), y: Math.max(20, y1 - 5) };
    if (words) put("text", className + size, { ...place, "text-anchor": right ? "end" : "start" }, words);
  }
  return svg;
}

function picture(image, caption, rows) {
  const alt = `${caption} of ${page.files[image.number]}`;
  const photo = make("img", { src: image.source, alt, width: image.width, height: image.height });
  const frame = make("button", { type: "button", className: "picture" }, [photo, overlay(image, rows)]);
  return make("figure", {}, [make("figcaption", { textContent: caption }), frame]);
}

function short(label) {
  const name = page.labels[label - 1];
  return name.length > 24 ? name.slice(0, 23) + "…" : name;
}

function truthRows(image) {
  return image.truth.map(([x1, y1, x2, y2, label, ignored]) => {
    return { box: [x1, y1, x2, y2], className: ignored ? "k-ignored" : "k-truth", words: short(label) };
  });
}

function foundRows({ found, missed }) {
  const seen = found.map(([x1, y1, x2, y2, label, score, kind, meant]) => {
    const is = meant ? `, is ${short(meant)}` : "";
    const words = WRONG.has(kind) ? `${short(label)} ${score.toFixed(2)}${is}` : "";
    return { box: [x1, y1, x2, y2], className: "k-" + kind, words };
  });
  return seen.concat(missed.map(([x1, y1, x2, y2, label]) => ({ box: [x1, y1, x2, y2], className: "k-miss", words: short(label) })));
}

// How often a run has each error in an image.
function errorsOf(image, run) {
  const { found, missed } = image.runs[run];
  const kinds = [...found.map((row) => row[6]), ...missed.map(() => "miss")];
  const counted = page.kinds.map((kind) => [kinds.filter((other) => other === kind).length, kind]);
  const words = counted.filter(([count]) => count).map(([count, kind]) => `${count} ${kind}`);
  const name = page.runs.length > 1 ? page.runs[run] + ": " : "";
  return name + (words.join(", ") || "no error");
}

function card(image, runs) {
  const pictures = [picture(image, "ground truth", truthRows(image))];
  for (const k of runs) pictures.push(picture(image, page.runs[k], foundRows(image.runs[k])));
  const element = make("article", { className: "image" }, [
    make("div", {}, pictures),
    make("p", { className: "note", textContent: [page.files[image.number], ...runs.map((k) => errorsOf(image, k))].join(" · ") }),
  ]);
  element.firstChild.addEventListener("click", () => element.classList.toggle("large"));
  return element;
}

function filterGallery() {
  gallery.replaceChildren();
  shownImages = 0;
  showMore();
}

function showMore() {
  const choice = chosen();
  const counted = page.images.map((image) => [countErrors(image, choice), image]).filter(([count]) => count);
  counted.sort((a, b) => b[0] - a[0]);
  gallery.append(...counted.slice(shownImages, shownImages + 12).map(([, image]) => card(image, choice.runs)));
  shownImages = Math.min(counted.length, shownImages + 12);
  const errors = counted.reduce((sum, [count]) => sum + count, 0);
  document.getElementById("found").textContent = `errors: ${errors} of ${countAllErrors(choice)}, images: ${counted.length}`;
  document.getElementById("more").hidden = shownImages >= counted.length;
}

// The page

all("select[data-for]").forEach((select) => select.addEventListener("change", () => choose(select)));
all("[data-cell]").forEach((button) =>
  button.addEventListener("click", () => showCrops(Number(button.dataset.run), button.dataset.cell)),
);
filters.filter(Boolean).forEach((filter) => filter.addEventListener("change", filterGallery));
document.getElementById("more").addEventListener("click", showMore);
document.getElementById("cell-show").addEventListener("click", showChosen);
document.querySelector("#tray > button").addEventListener("click", () => (document.getElementById("tray").hidden = true));
addEventListener("scroll", () => (tip.hidden = true), { passive: true });
filterGallery();
