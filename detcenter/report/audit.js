// One suspect at a time: what is seen, what is decided, and what stays in the browser.

const byId = (id) => document.getElementById(id);
const name = `detcenter audit ${page.audit}`;
const accepts = {
  "wrong label": (it) => `It is ${it.better_label}`,
  missing: (it) => `Add it as ${it.better_label}`,
  surplus: () => "Remove the box",
  "badly placed": () => "Move the box",
};
// What a suspect is called wherever it stands on the page, so that decisions outlive another page.
const called = (it) => JSON.stringify([it.kind, it.image, it.number, it.box, it.label]);
let decisions = new Map(stored());
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

/** Change one decision in what this and other windows of the page have kept until now. */
function keep(it, decision) {
  const kept = new Map([...decisions, ...stored()]);
  if (decision) kept.set(called(it), decision);
  else kept.delete(called(it));
  decisions = kept;
  try {
    localStorage.setItem(name, JSON.stringify([...kept]));
  } catch {
    byId("kept").hidden = false;
  }
}

const made = (it) => decisions.get(called(it));
const decided = () => page.suspects.filter(made).length;

// Deciding

function decide(decision, label = null) {
  const it = page.suspects[chosen[at]];
  if (!it) return;
  past.push([chosen[at], made(it)]);
  keep(it, { decision, label });
  if (byId("open").checked) choose(at);
  else move(1);
}

function undo() {
  const [number, before] = past.pop() ?? [chosen[at], undefined];
  const it = page.suspects[number];
  if (!it) return;
  keep(it, before);
  choose(0);
  at = Math.max(0, chosen.indexOf(number));
  show();
}

function outcome(it, { decision, label }) {
  const about = { kind: it.kind, image: it.image, number: it.number, box: it.box, label: it.label, decision };
  if (decision === "reject") return about;
  if (decision === "accept" && it.kind === "surplus") return { ...about, new_label: null, new_box: null };
  const better = decision === "class" ? label : (it.better_label ?? it.label);
  return { ...about, new_label: better, new_box: it.better_box ?? it.box };
}

function download() {
  const rows = page.suspects.filter(made).map((it) => outcome(it, made(it)));
  const content = { data: page.data, classes: page.classes, decisions: rows };
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  make("a", { href: url, download: "decisions.json" }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Moving

function choose(place) {
  const kind = byId("kind").value;
  const open = byId("open").checked;
  chosen = [...page.suspects.keys()].filter(
    (number) => (!kind || page.suspects[number].kind === kind) && !(open && made(page.suspects[number])),
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
  byId("done").value = decided() / Math.max(1, page.suspects.length);
  byId("count").textContent = `${decided()} of ${page.suspects.length} decided`;
  if (!it) return;
  byId("picture").replaceChildren(drawing(it));
  byId("what").textContent = `${it.kind}, ${it.score.toFixed(2)}: ${it.label ?? "nothing is annotated"}${it.better_label ? ` → ${it.better_label}` : ""}`;
  byId("reason").textContent = it.reason;
  byId("image").textContent = it.image;
  byId("key-better").hidden = !it.better_box;
  byId("accept").replaceChildren(accepts[it.kind](it), " ", make("kbd", { textContent: "a" }));
  byId("other").firstChild.textContent = it.kind === "badly placed" ? "move it, as " : it.kind === "missing" ? "add it as " : "it is ";
  const choice = made(it);
  byId("accept").setAttribute("aria-pressed", choice?.decision === "accept");
  byId("reject").setAttribute("aria-pressed", choice?.decision === "reject");
  byId("class").value = choice?.decision === "class" ? choice.label : "";
  byId("set").setAttribute("aria-pressed", choice?.decision === "class");
  byId("set").disabled = !byId("class").value;
  byId("undo").disabled = !past.length && !choice;
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
byId("kind").addEventListener("change", () => {
  byId("kind").blur(); // or the next keys would choose another kind
  choose(0);
});
byId("open").addEventListener("change", () => choose(0));
byId("class").addEventListener("change", () => (byId("set").disabled = !byId("class").value));
function set() {
  const label = byId("class").value;
  if (!label) return;
  byId("class").blur();
  decide("class", label);
}
addEventListener("storage", (event) => {
  if (event.key !== name) return; // another window of this page has decided
  decisions = new Map(stored());
  show();
});
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
byId("set").addEventListener("click", set);
document.addEventListener("keydown", (event) => {
  if (event.target === byId("class") && event.key === "Enter") {
    event.preventDefault();
    set();
  }
  const typed = event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT";
  if (typed || (event.repeat && !event.key.startsWith("Arrow"))) return; // a key held decides once
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
choose(0);
