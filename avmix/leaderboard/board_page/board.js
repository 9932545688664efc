
// The table: only rows that hold the words and are of the chosen kinds.
const board = document.getElementById("board"), body = board.tBodies[0];
const form = document.getElementById("filters"), words = document.getElementById("words");
const choices = [...form.querySelectorAll("select")];
const narrow = () => {
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of body.rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !wanted.every(word => text.includes(word))
      || choices.some(one => one.value && row.dataset[one.dataset.key] !== one.value);
  }
  const shown = [...body.rows].filter(row => !row.hidden).length;
  document.getElementById("filtered").textContent =
    shown < body.rows.length ? `${shown} of ${body.rows.length} rows` : "";
  enter();
};
form.addEventListener("input", narrow);
form.addEventListener("reset", () => setTimeout(narrow));
form.addEventListener("submit", event => event.preventDefault());

// Cells: one of them is reached by Tab, the others from it by the arrow keys.
const cellsOf = row => [...row.querySelectorAll(".cell")];
const enter = () => {
  for (const cell of body.querySelectorAll('.cell[tabindex="0"]')) cell.tabIndex = -1;
  const first = [...body.rows].filter(row => !row.hidden).flatMap(cellsOf)[0];
  if (first) first.tabIndex = 0;
};
const go = (from, down, right) => {
  const rows = [...body.rows].filter(row => !row.hidden);
  const at = rows.indexOf(from.parentElement), column = from.cellIndex;
  let to = null;
  if (right) {
    const cells = cellsOf(from.parentElement);
    to = cells[cells.indexOf(from) + right];
  }
  for (let i = at + down; down && rows[i] && !to; i += down) {
    if (rows[i].cells[column].classList.contains("cell")) to = rows[i].cells[column];
  }
  if (!to) return;
  for (const cell of body.querySelectorAll('.cell[tabindex="0"]')) cell.tabIndex = -1;
  to.tabIndex = 0;
  to.focus();
};
body.addEventListener("keydown", event => {
  const cell = event.target.closest(".cell");
  if (!cell) return;
  const move = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
  if (move[event.key]) go(cell, ...move[event.key]);
  else if (event.key === "Enter" || event.key === " ") tell(cell);
  else return;
  event.preventDefault();
});
body.addEventListener("click", event => {
  const cell = event.target.closest(".cell");
  if (cell) tell(cell);
});

// What made a cell: written as text, never as markup.
const details = JSON.parse(document.getElementById("details").textContent);
const told = document.getElementById("told"), content = document.getElementById("told-content");
const add = (parent, kind, text) => {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
};
const plain = value => Array.isArray(value) ? value.map(plain).join(", ")
  : value !== null && typeof value === "object"
    ? Object.entries(value).map(([key, one]) => `${key}: ${plain(one)}`).join("; ")
    : String(value);
const pairs = (title, values) => {
  const rows = Object.entries(values).filter(([, value]) => value !== undefined && plain(value));
  if (!rows.length) return;
  if (title) add(content, "h3", title);
  const list = add(content, "dl");
  for (const [key, value] of rows) { add(list, "dt", key); add(list, "dd", plain(value)); }
};
const tell = cell => {
  const detail = details[cell.dataset.row], name = cell.dataset.figure;
  const one = detail.figures[name], record = detail.result, [factor, digits] = one.scale;
  const say = value => value === null || value === undefined ? "-"
    : (factor * value).toFixed(digits);
  const range = of => of.low === null ? "" : ` (95 %: ${say(of.low)} to ${say(of.high)})`;
  content.replaceChildren();
  const head = add(content, "h2", `${detail.method}: ${one.title} ${say(one.of.value)}`);
  head.id = "told-title";
  add(content, "p", `${detail.protocol}: ${detail.title}`);
  pairs("", {
    "figure": `${name}: ${say(one.of.value)}${range(one.of)}, mean of ${one.of.num_runs} runs`,
    "of the interval": `sources ${say(one.of.sources[0])} to ${say(one.of.sources[1])}; seeds: `
      + (one.of.seeds === null ? "one, so that this part is missing" : `\u00b1${say(one.of.seeds)}`),
    [`minus ${detail.first}`]: one.less ? say(one.less.value) + range(one.less) : undefined,
    "method": detail.about || undefined,
    "selection": record.selection,
    "card": `version ${record.protocol_version}, SHA-256 ${record.card_sha256}`,
    "leaks": record.leaks, "defects": record.defects,
  });
  for (const weights of record.pretraining) {
    pairs(`Weights ${weights.name}`, {"modality": weights.modality,
      "trained on": weights.trained_on, "overlap with the test split": weights.overlap});
  }
  const chart = document.getElementById(`charts-${cell.dataset.row}`);
  if (chart) {
    const charts = add(content, "div");
    charts.className = "charts";
    charts.append(chart.content.cloneNode(true));
  }
  add(content, "h3", "Runs");
  const scroll = add(content, "div");
  scroll.className = "scroll";
  const table = add(scroll, "table"), titles = add(add(table, "thead"), "tr");
  const columns = ["split", "seed", one.title, "started", "commit", "training, s",
    "evaluation, s", "Wh (estimate)", "clips", "missing", "machine", "train split", "test split",
    "code", "predictions"];
  for (const title of columns) add(titles, "th", title).scope = "col";
  const rows = add(table, "tbody");
  for (const run of record.runs) {
    const row = add(rows, "tr"), where = run.environment;
    for (const value of [run.split, run.seed, say(run.figures[name]), run.started,
      `${(run.commit || "unknown").slice(0, 12)}${run.dirty ? ", not as committed" : ""}`,
      run.train_seconds.toFixed(0), run.eval_seconds.toFixed(0), run.energy.watt_hours.toFixed(2),
      run.num_clips, run.num_missing || 0, plain(where.machine ?? where),
      run.split_sha256.train.slice(0, 12), run.split_sha256.test.slice(0, 12),
      run.code_sha256.slice(0, 12), run.predictions.file]) add(row, "td", value);
  }
  pairs("Environment of the first run", record.runs[0].environment);
  pairs("Hashes of the first run", {"split": record.runs[0].split_sha256,
    "media": record.runs[0].media_sha256, "code": record.runs[0].code_sha256,
    "checkpoint": record.runs[0].checkpoint, "predictions": record.runs[0].predictions.sha256});
  pairs("Options", record.options);
  pairs("Features", record.features || {});
  pairs("Probe", record.probe || {});
  pairs("Evaluation", record.evaluation || {});
  for (const trial of record.trials || []) {
    pairs(trial.chosen ? "Tuning: chosen" : "Tuning", {"options": trial.options,
      "split": trial.split, "value": trial.value});
  }
  told.showModal();
  told.scrollTop = 0;
  told.addEventListener("close", () => cell.focus(), {once: true});
};
told.addEventListener("click", event => { if (event.target === told) told.close(); });
enter();
