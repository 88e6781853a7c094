// What pages with charts do: draw them when they come into view, in the colours of the room. The
// script after this one has `wire(element)`, for a chart that was drawn.

// Charts

async function loadPlotly() {
  const letters = atob(document.getElementById("plotly").textContent);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(make("script", { textContent: await new Response(stream).text() }));
}

const drawn = new Set();
const coming = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "300px" },
);

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(["ink", "soft", "line", "card"].map((name) => [name, style.getPropertyValue("--" + name).trim()]));
}

function inTheRoom(chart) {
  const { ink, soft, line, card } = colours();
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickfont: { color: soft } };
  const layout = structuredClone(chart.layout);
  for (const name of ["xaxis", "yaxis"]) {
    const own = layout[name];
    layout[name] = { ...axis, ...own, tickfont: { ...axis.tickfont, ...own?.tickfont } };
  }
  layout.font = { color: ink, family: "system-ui, sans-serif", size: 12 };
  layout.hoverlabel = { bgcolor: card, bordercolor: line, font: { color: ink } };
  if (!canZoom(chart)) layout.dragmode = false;
  const inked = (trace) => {
    const marker = trace.marker && { marker: { ...trace.marker, color: ink } };
    const drawnLine = trace.line && { line: { ...trace.line, color: ink } };
    return { ...trace, ...marker, ...drawnLine, textfont: { color: ink } };
  };
  return [chart.data.map((trace) => (trace.meta === "ink" ? inked(trace) : trace)), layout];
}

// Where a finger would have to scroll the page and to zoom, it scrolls.
function canZoom(chart) {
  return chart.layout.dragmode === "zoom" && matchMedia("(pointer: fine)").matches;
}

function draw(element) {
  coming.unobserve(element);
  drawn.add(element);
  const chart = page.charts[element.dataset.chart];
  if (!chart) {
    Plotly.purge(element);
    delete element.dataset.wired;
    delete element.dataset.shown;
    element.style.minHeight = 0;
    element.textContent = "This run has none.";
    return;
  }
  if (!element.dataset.wired) element.textContent = "";
  element.style.minHeight = chart.layout.height + "px";
  const tools = canZoom(chart)
    ? { modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]], displaylogo: false }
    : { displayModeBar: false, doubleClickDelay: 0 }; // or a click soon after another is lost
  const [data, layout] = inTheRoom(chart);
  // What the viewer zoomed to stays when the colours change.
  if (canZoom(chart) && element.dataset.shown === element.dataset.chart)
    for (const name of ["xaxis", "yaxis"]) layout[name].range = element.layout[name].range;
  element.dataset.shown = element.dataset.chart;
  Plotly.react(element, data, layout, { responsive: true, showTips: false, ...tools });
  if (element.dataset.wired) return;
  element.dataset.wired = "yes";
  wire(element);
}

function redraw() {
  drawn.forEach(draw);
}

loadPlotly().then(
  () => all(".chart").forEach((element) => coming.observe(element)),
  () => all(".chart").forEach((element) => element.append("The charts need a browser of 2023 or later.")),
);
document.getElementById("theme").addEventListener("click", redraw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
