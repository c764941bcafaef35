"use strict";
// Sorting: a heading orders the rows by its column, a second time the other way round.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  let last = 0, ascending = true;
  headings.forEach((heading, column) => heading.addEventListener("click", () => {
    const words = "text" in heading.dataset;
    ascending = column === last ? !ascending : words || column === 0;
    last = column;
    const key = row => row.cells[column].dataset.value;
    const compare = words ? (a, b) => key(a).localeCompare(key(b)) : (a, b) => key(a) - key(b);
    const rows = [...body.rows].filter(row => !row.matches(".decision"));
    rows.sort((a, b) => (ascending ? 1 : -1) * compare(a, b));
    body.append(...rows.flatMap(row => row.nextElementSibling?.matches(".decision") ? [row, row.nextElementSibling] : [row]));
  }));
}

// A layer's name shows and hides the row below it.
for (const name of document.querySelectorAll("button.name"))
  name.addEventListener("click", () => {
    const decision = name.closest("tr").nextElementSibling;
    decision.hidden = !decision.hidden;
  });

// Looking closer: the plot shows bins [from, to) of its own coordinates; labels and scale follow.
const frame = document.querySelector(".timeline");
if (frame) {
  const drawing = frame.querySelector("svg"), plot = frame.querySelector(".plot"), scale = frame.querySelector(".scale");
  const bins = +plot.dataset.bins, milliseconds = +plot.dataset.ms, cycles = +plot.dataset.cycles;
  const left = +frame.dataset.left, width = +frame.dataset.width;
  const height = plot.viewBox.baseVal.height;
  const least = Math.min(bins, 16);
  const space = "http://www.w3.org/2000/svg";
  const [line, text] = [scale.querySelector("line"), scale.querySelector("text")];
  let from = 0, to = bins;
  const at = bin => left + width * (bin - from) / (to - from);

  const show = (begin, end) => {
    const extent = Math.min(bins, Math.max(least, end - begin));
    from = Math.min(Math.max(0, begin), bins - extent);
    to = from + extent;
    plot.setAttribute("viewBox", `${from} 0 ${extent} ${height}`);
    for (const label of frame.querySelectorAll(".place")) {
      const first = Math.max(from, +label.dataset.begin);
      const end = Math.min(to, +label.dataset.begin + +label.dataset.width);
      const room = at(end) - at(first);
      label.setAttribute("visibility", room > 7 * label.textContent.length + 3 ? "visible" : "hidden");
      label.setAttribute("x", (at(first) + at(end)) / 2);
    }
    const perBin = milliseconds / bins, visible = extent * perBin;
    let step = 10 ** Math.floor(Math.log10(visible / 8));
    step *= [1, 2, 5, 10, 20].find(factor => visible / (step * factor) <= 8);
    const marks = [];
    for (let tick = Math.ceil(from * perBin / step - 1e-9); tick * step <= to * perBin * (1 + 1e-9); tick++) {
      const x = at(tick * step / perBin);
      const mark = line.cloneNode(), name = text.cloneNode();
      mark.setAttribute("x1", x);
      mark.setAttribute("x2", x);
      name.setAttribute("x", x);
      name.textContent = `${+(tick * step).toPrecision(6)} ms`;
      marks.push(mark, name);
    }
    scale.replaceChildren(...marks);
  };

  const steps = {
    in: () => [from + (to - from) / 4, to - (to - from) / 4],
    out: () => [from - (to - from) / 2, to + (to - from) / 2],
    left: () => [from - (to - from) / 2, to - (to - from) / 2],
    right: () => [from + (to - from) / 2, to + (to - from) / 2],
    all: () => [0, bins],
  };
  for (const button of document.querySelectorAll("[data-zoom]"))
    button.addEventListener("click", () => show(...steps[button.dataset.zoom]()));
  for (const row of document.querySelectorAll("tr[data-begin]"))
    row.cells[0].addEventListener("click", () => {
      const begin = +row.dataset.begin * bins / cycles, extent = +row.dataset.cycles * bins / cycles;
      show(begin - extent * 0.05, begin + extent * 1.05);
      frame.scrollIntoView({block: "center"});
    });

  let begun = null, choice = null;
  const bin = event => {
    const box = drawing.getBoundingClientRect();
    const x = (event.clientX - box.left) * drawing.viewBox.baseVal.width / box.width;
    return from + (to - from) * Math.min(1, Math.max(0, (x - left) / width));
  };
  plot.addEventListener("pointerdown", event => {
    begun = bin(event);
    plot.setPointerCapture(event.pointerId);
    choice = plot.appendChild(document.createElementNS(space, "rect"));
    choice.setAttribute("class", "choice");
    choice.setAttribute("height", height);
  });
  plot.addEventListener("pointermove", event => {
    if (begun === null) return;
    choice.setAttribute("x", Math.min(begun, bin(event)));
    choice.setAttribute("width", Math.abs(bin(event) - begun));
  });
  plot.addEventListener("pointerup", event => {
    if (begun === null) return;
    const end = bin(event), apart = Math.abs(end - begun);
    choice.remove();
    if (apart > (to - from) / 100) show(Math.min(begun, end), Math.max(begun, end));
    begun = null;
  });
  plot.addEventListener("dblclick", () => show(0, bins));
}
