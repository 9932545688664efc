// Classes: only those whose name holds the text.
const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const rows = [...document.getElementById("class-table").tBodies[0].rows];
  const wanted = filter.value.toLowerCase();
  for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
  const shown = rows.filter(row => !row.hidden).length;
  document.getElementById("filtered").textContent = wanted ? `${shown} of ${rows.length}` : "";
});

// The confusion matrix: a canvas, and text about the cell that is pointed at.
const heat = document.getElementById("heat");
if (heat) {
  const {names, order, clips, cells} = JSON.parse(heat.textContent);
  const canvas = document.getElementById("matrix"), paint = canvas.getContext("2d");
  const told = document.getElementById("cell"), k = names.length;
  const byTrue = names.map(() => new Map()), bySaid = names.map(() => new Map());
  for (let i = 0; i < cells.length; i += 3) {
    byTrue[cells[i]].set(cells[i + 1], cells[i + 2]);
    bySaid[cells[i + 1]].set(cells[i], cells[i + 2]);
  }
  const size = Math.max(1, Math.floor(720 / k)), dot = Math.max(3, size);
  canvas.width = canvas.height = k * size;
  const right = c => (byTrue[c].get(c) || 0) / Math.max(1, clips[c]);
  const orders = {class: names.map((_, c) => c), cluster: order,
    right: names.map((_, c) => c).sort((a, b) => right(a) - right(b) || a - b)};
  let place = orders.class, at = [0, 0];
  const draw = () => {
    const rank = [];
    place.forEach((c, i) => { rank[c] = i; });
    paint.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < cells.length; i += 3) {
      const [c, s, n] = cells.slice(i, i + 3), share = n / clips[c];
      paint.fillStyle = c === s ? `rgba(60,130,190,${0.15 + 0.85 * share})`
        : `rgba(225,100,30,${0.3 + 0.7 * share})`;
      const shift = (dot - size) / 2;  // at least three pixels: one would not be seen
      paint.fillRect(rank[s] * size - shift, rank[c] * size - shift, dot, dot);
    }
    const [row, column] = at;
    paint.fillStyle = "rgba(128,128,128,0.35)";
    paint.fillRect(0, row * size, canvas.width, size);
    paint.fillRect(column * size, 0, size, canvas.height);
  };
  const line = (parent, kind, text) => {
    const element = document.createElement(kind);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const list = (title, found, c, of) => {
    const most = [...found].filter(([s]) => s !== c).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
    if (!most.length) return;
    line(told, "p", title);
    const ul = line(told, "ul", "");
    for (const [s, n] of most.slice(0, 8)) line(ul, "li", `${names[s]}: ${n}${of(n)}`);
    if (most.length > 8) line(ul, "li", `and ${most.length - 8} more`);
  };
  const tell = () => {
    const c = place[at[0]], s = place[at[1]], n = byTrue[c].get(s) || 0;
    const percent = m => ` (${(100 * m / Math.max(1, clips[c])).toFixed(1)} %)`;
    told.replaceChildren();
    const head = line(told, "p", "");
    line(head, "strong", names[c]);
    head.append(c === s ? " is named rightly: " : " is taken for ");
    if (c !== s) { line(head, "strong", names[s]); head.append(": "); }
    head.append(`${n} of ${clips[c]} clips${percent(n)}`);
    list(`${names[c]} is taken for`, byTrue[c], c, percent);
    list(`Taken for ${names[c]}`, bySaid[c], c, () => "");
    draw();
  };
  const move = (row, column) => {
    const inside = i => Math.min(k - 1, Math.max(0, i));
    if (at[0] !== inside(row) || at[1] !== inside(column)) {
      at = [inside(row), inside(column)];
      tell();
    }
  };
  const point = event => {
    const box = canvas.getBoundingClientRect();
    move(Math.floor(k * (event.clientY - box.top) / box.height),
      Math.floor(k * (event.clientX - box.left) / box.width));
  };
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", event => {
    const [row, column] = at;
    const to = {ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1], Home: [0, 0],
      End: [k - 1, k - 1], PageUp: [row - 10, column], PageDown: [row + 10, column]}[event.key];
    if (!to) return;
    event.preventDefault();
    move(...to);
  });
  document.getElementById("order").addEventListener("change", event => {
    place = orders[event.target.value];
    tell();
  });
  tell();
}
