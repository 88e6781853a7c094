// One suspect at a time: what is seen, what is decided, and what stays in the browser.

const byId = (id) => document.getElementById(id);
const name = `detcenter audit ${page.audit}`;
const accepts = {
  "wrong label": (it) => `It is ${it.better_label}`,
  missing: (it) => `Add it as ${it.better_label}`,
  surplus: () => "Remove the box",
  "badly placed": () => "Move the box",
};
const decisions = new Map(stored());
const past = []; // what was decided one after the other: [suspect, the decision before]
let chosen = []; // suspects that the filters let through, by their numbers
let at = 0;

// What stays

function stored() {
  try {
    return JSON.parse(localStorage.getItem(name)) ?? [];
  } catch {
    return []; // damaged, or a browser that keeps nothing for pages from files
  }
}

function keep() {
  try {
    localStorage.setItem(name, JSON.stringify([...decisions]));
  } catch {
    byId("count").append(" (this browser keeps nothing: download before you close it)");
  }
}

// Deciding

function decide(decision, label = null) {
  const number = chosen[at];
  if (number === undefined) return;
  past.push([number, decisions.get(number)]);
  decisions.set(number, { decision, label });
  keep();
  if (byId("open").checked) choose(at);
  else move(1);
}

function undo() {
  if (!past.length) return;
  const [number, before] = past.pop();
  if (before) decisions.set(number, before);
  else decisions.delete(number);
  keep();
  choose(0);
  at = Math.max(0, chosen.indexOf(number));
  show();
}

function outcome(it, { decision, label }) {
  const about = { kind: it.kind, image: it.image, box: it.box, label: it.label, decision };
  if (decision === "reject") return about;
  if (decision === "accept" && it.kind === "surplus") return { ...about, new_label: null, new_box: null };
  const better = decision === "class" ? label : (it.better_label ?? it.label);
  return { ...about, new_label: better, new_box: it.better_box ?? it.box };
}

function download() {
  const made = [...decisions].sort(([a], [b]) => a - b).map(([number, it]) => outcome(page.suspects[number], it));
  const content = { audit: page.audit, data: page.data, classes: page.classes, decisions: made };
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  make("a", { href: url, download: "decisions.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Moving

function choose(place) {
  const kind = byId("kind").value;
  const open = byId("open").checked;
  chosen = [...page.suspects.keys()].filter(
    (number) => (!kind || page.suspects[number].kind === kind) && !(open && decisions.has(number)),
  );
  at = Math.min(Math.max(0, place), Math.max(0, chosen.length - 1));
  show();
}

function move(step) {
  at = Math.min(Math.max(0, at + step), Math.max(0, chosen.length - 1));
  show();
}

// Seeing

function show() {
  const it = page.suspects[chosen[at]];
  byId("desk").hidden = !it;
  byId("nothing").hidden = Boolean(it);
  byId("place").textContent = it ? `${at + 1} of ${chosen.length}` : "0 of 0";
  byId("done").value = decisions.size / Math.max(1, page.suspects.length);
  byId("count").textContent = `${decisions.size} of ${page.suspects.length} decided`;
  if (!it) return;
  byId("picture").replaceChildren(drawing(it));
  byId("what").textContent = `${it.kind}, ${it.score.toFixed(2)}: ${it.label ?? "nothing is annotated"}${it.better_label ? ` → ${it.better_label}` : ""}`;
  byId("reason").textContent = it.reason;
  byId("image").textContent = it.image;
  byId("key-better").hidden = !it.better_box;
  byId("accept").replaceChildren(accepts[it.kind](it), " ", make("kbd", { textContent: "a" }));
  byId("other").firstChild.textContent = it.kind === "badly placed" ? "move it, as " : it.kind === "missing" ? "add it as " : "it is ";
  const made = decisions.get(chosen[at]);
  byId("accept").setAttribute("aria-pressed", made?.decision === "accept");
  byId("reject").setAttribute("aria-pressed", made?.decision === "reject");
  byId("class").value = made?.decision === "class" ? made.label : "";
  byId("undo").disabled = !past.length;
  byId("neighbours").replaceChildren(
    ...[[it.label, it.of_label], [it.better_label, it.of_better]]
      .filter(([, pictures]) => pictures.length)
      .map(([label, pictures]) =>
        make("div", {}, [
          make("h3", { textContent: `annotated as ${label}, and like it` }),
          make("div", { className: "neighbours" }, pictures.map((src) => make("img", { src, alt: label }))),
        ]),
      ),
  );
}

function drawing(it) {
  const [left, top, right, bottom] = it.frame;
  const element = (tag, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
    return made;
  };
  const size = { x: left, y: top, width: right - left, height: bottom - top };
  const svg = element("svg", { viewBox: `${left} ${top} ${size.width} ${size.height}`, role: "img", "aria-label": it.reason });
  if (it.picture) svg.append(element("image", { href: it.picture, ...size, preserveAspectRatio: "none" }));
  const boxes = it.label === null ? [] : [["annotated", it.box]];
  if (it.better_box) boxes.push(["better", it.better_box]);
  for (const [kind, [x1, y1, x2, y2]] of boxes)
    for (const cls of ["halo", kind]) svg.append(element("rect", { class: cls, x: x1, y: y1, width: x2 - x1, height: y2 - y1 }));
  return svg;
}

// Wiring

byId("kind").append(
  make("option", { value: "", textContent: `all (${page.suspects.length})` }),
  ...Object.keys(accepts).map((kind) => {
    const count = page.suspects.filter((it) => it.kind === kind).length;
    return make("option", { value: kind, textContent: `${kind} (${count})` });
  }),
);
byId("class").append(
  make("option", { value: "", textContent: "…" }),
  ...page.classes.map((label) => make("option", { value: label, textContent: label })),
);
byId("kind").addEventListener("change", () => choose(0));
byId("open").addEventListener("change", () => choose(0));
byId("class").addEventListener("change", () => byId("class").value && (decide("class", byId("class").value), byId("class").blur()));
const keys = {
  a: () => decide("accept"),
  r: () => decide("reject"),
  c: () => byId("class").focus(),
  u: undo,
  d: download,
  ArrowLeft: () => move(-1),
  ArrowRight: () => move(1),
};
const buttons = { accept: "a", reject: "r", undo: "u", download: "d", before: "ArrowLeft", after: "ArrowRight" };
Object.entries(buttons).forEach(([id, key]) => byId(id).addEventListener("click", keys[key]));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
choose(0);
