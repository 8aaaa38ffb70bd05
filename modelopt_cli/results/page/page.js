// Draws the charts of report.html, sorts its tables and shows a trial where one is clicked. Everything it draws stands in
// the page's own data (the element #page-data); nothing is loaded.
"use strict";
(() => {
  const root = document.documentElement;
  let data = JSON.parse(document.getElementById("page-data").textContent);
  let theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const views = new Map(); // element -> result of vegaEmbed

  // Data

  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    const count = names.length ? columns[names[0]].length : 0;
    return Array.from({ length: count }, (_, i) => Object.fromEntries(names.map((name) => [name, columns[name][i]])));
  };

  let sets = {};
  const rows = (name) => (sets[name] ??= data.data[name] ? rowsOf(data.data[name]) : []);

  // Charts

  async function drawPanel(element, panel) {
    const spec = structuredClone(panel.spec);
    const isVega = spec.$schema.includes("/vega/");
    const room = Math.max(200, element.clientWidth || element.parentElement.clientWidth);
    if (isVega) {
      for (const entry of spec.data) if (data.data[entry.name]) entry.values = structuredClone(rows(entry.name));
      const [left, right] = [Math.min(90, 0.2 * room), Math.min(110, 0.2 * room)]; // for what is written beside the axes
      spec.width = room - left - right;
      spec.height = panel.height;
      spec.padding = { left, right, top: 56, bottom: 28 };
      spec.autosize = "none";
    } else {
      spec.datasets = {};
      for (const name of panel.sets) spec.datasets[name] = structuredClone(rows(name));
      spec.width = "container";
      spec.height = panel.height;
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    views.get(element)?.finalize();
    const config = structuredClone(data.themes[theme]);
    config.axisY.labelLimit = Math.max(90, Math.min(260, Math.round(0.4 * room)));
    const result = await vegaEmbed(element, spec, {
      config,
      renderer: "svg",
      ast: true,
      tooltip: { theme },
      actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
      downloadFileName: element.closest("figure")?.dataset.chart ?? "chart",
    });
    views.set(element, result);
    result.view.addEventListener("click", (event, item) => {
      const trial = item?.datum?.trial ?? item?.datum?.datum?.trial;
      if (Number.isInteger(trial)) showTrial(trial);
    });
    element.dataset.drawn = theme;
  }

  let drawing = Promise.resolve();
  const drawAll = () => {
    drawing = drawing.then(async () => {
      for (const figure of document.querySelectorAll("figure.chart")) {
        const chart = data.charts[figure.dataset.chart];
        for (const element of figure.querySelectorAll("[data-panel]")) {
          if (!chart) continue;
          try {
            await drawPanel(element, chart.panels[Number(element.dataset.panel)]);
          } catch (error) {
            element.textContent = `This chart could not be drawn: ${error.message}`;
            console.error(error);
          }
          await new Promise((next) => setTimeout(next));
        }
      }
      root.dataset.ready = theme;
    });
    return drawing;
  };

  const dress = (to) => {
    theme = to;
    root.dataset.theme = to;
    return drawAll();
  };
  document.getElementById("theme").addEventListener("click", () => dress(theme === "dark" ? "light" : "dark"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => dress(event.matches ? "dark" : "light"));
  let width = innerWidth, timer;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(drawAll, 200);
  });

  // One trial

  const text = (value) => {
    if (value === null || value === undefined) return "–";
    if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(5)));
    return String(value);
  };
  const pairs = (list, entries) => {
    list.replaceChildren(
      ...entries.flatMap(([name, value]) => {
        const dt = document.createElement("dt"), dd = document.createElement("dd");
        dt.textContent = name;
        dd.textContent = text(value);
        return [dt, dd];
      }),
    );
  };
  const dialog = document.getElementById("trial");

  async function showTrial(number) {
    const trial = rows("trials").find((row) => row.trial === number);
    if (!trial || !data.trials) return;
    document.getElementById("trial-title").textContent = `Trial ${number}`;
    const times = [trial.state, trial.origin && `from ${trial.origin}`, trial.seconds != null && `${text(trial.seconds)} s`, trial.steps != null && `step ${trial.steps}`];
    document.getElementById("trial-state").textContent = times.filter(Boolean).join(" · ");
    const named = (group) => group.map(([column, name]) => [name, trial[column]]).filter(([, value]) => value !== null && value !== undefined);
    pairs(document.getElementById("trial-settings"), named(data.trials.settings));
    pairs(document.getElementById("trial-metrics"), named(data.trials.metrics));
    document.getElementById("trial-reason").textContent = trial.reason ?? "";
    const frame = document.getElementById("trial-curve");
    views.get(frame)?.finalize();
    views.delete(frame);
    frame.replaceChildren();
    dialog.dataset.trial = number;
    if (!dialog.open) dialog.showModal();
    const curve = rows("curves").filter((row) => row.trial === number);
    if (curve.length > 1) {
      const spec = {
        $schema: data.trials.schema,
        data: { values: curve },
        mark: { type: "line", point: curve.length <= 60 },
        encoding: {
          x: { field: "step", type: "quantitative", title: "step" },
          y: { field: "c0", type: "quantitative", title: data.trials.curve, scale: { zero: false } },
        },
        width: "container",
        height: 160,
        autosize: { type: "fit-x", contains: "padding" },
      };
      views.set(frame, await vegaEmbed(frame, spec, { config: data.themes[theme], renderer: "svg", ast: true, actions: false }));
    }
  }
  document.getElementById("trial-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

  // Tables

  const key = (cell) => {
    const value = cell?.dataset.sort ?? cell?.textContent.trim() ?? "";
    const number = Number(value);
    return value !== "" && Number.isFinite(number) ? number : value;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b);
  };
  function sort(header) {
    const table = header.closest("table"), body = table.tBodies[0], index = header.cellIndex;
    const down = header.getAttribute("aria-sort") === "ascending";
    const lines = [...body.rows].map((row) => [key(row.cells[index]), row]);
    lines.sort(([a], [b]) => {
      const empty = (a === "–" || a === "") - (b === "–" || b === "");
      return empty || (down ? compare(b, a) : compare(a, b));
    });
    for (const cell of header.parentElement.cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    body.append(...lines.map(([, row]) => row));
  }
  document.addEventListener("click", (event) => {
    const header = event.target.closest("table.sortable thead th");
    if (header) return sort(header);
    const row = event.target.closest("tr[data-trial]");
    if (row && !event.target.closest("a")) showTrial(Number(row.dataset.trial));
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    const target = event.target.closest("th[tabindex], tr[data-trial]");
    if (target) {
      event.preventDefault();
      target.tagName === "TH" ? sort(target) : showTrial(Number(target.dataset.trial));
    }
  });

  function fillTrials() {
    const table = document.getElementById("trials-table");
    if (!table || !data.trials) return;
    const columns = [["trial", "trial"], ["state", "state"], ...data.trials.goals, ...data.trials.settings, ["seconds", "seconds"], ...(data.trials.hasReasons ? [["reason", "reason"]] : [])];
    const all = rows("trials");
    const numeric = columns.map(([column]) => all.every((row) => row[column] == null || typeof row[column] === "number"));
    const head = document.createElement("thead"), line = head.insertRow();
    columns.forEach(([, name], i) => {
      const th = document.createElement("th");
      th.scope = "col";
      th.textContent = name;
      if (numeric[i]) th.className = "number";
      line.append(th);
    });
    const body = document.createElement("tbody");
    for (const row of all) {
      const tr = body.insertRow();
      tr.dataset.trial = row.trial;
      tr.tabIndex = 0;
      if (row.trial === data.trials.best) tr.className = "best";
      columns.forEach(([column], i) => {
        const td = tr.insertCell();
        td.textContent = text(row[column]);
        if (numeric[i]) {
          td.className = "number";
          if (row[column] != null) td.dataset.sort = row[column];
        }
      });
    }
    table.replaceChildren(head, body);
  }
  const reachable = () => document.querySelectorAll("table.sortable thead th").forEach((th) => (th.tabIndex = 0));

  // A served page is given new data while its search runs (live.js).
  window.modelopt = {
    showTrial,
    update(fresh) {
      data = fresh;
      sets = {};
      fillTrials();
      reachable();
      return drawAll();
    },
  };
  addEventListener("beforeprint", () => { root.dataset.theme = "light"; });
  addEventListener("afterprint", () => { root.dataset.theme = theme; });
  fillTrials();
  reachable();
  dress(theme);
})();
