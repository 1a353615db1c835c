"use strict";
(() => {
  const root = document.documentElement;
  const holder = document.getElementById("figures");
  const figures = holder ? JSON.parse(holder.textContent) : {};
  const plots = [...document.querySelectorAll(".plot")];
  const drawn = new Set();

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const themed = (layout) => {
    const axis = {gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line")};
    const annotations = (layout.annotations || []).map((one) => ({...one, font: {...one.font, color: colour("--text")}}));
    return {...layout, annotations, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: colour("--text"), family: "system-ui, sans-serif", size: 13},
      hoverlabel: {bgcolor: colour("--raised"), font: {color: colour("--text")}},
      xaxis: {...layout.xaxis, ...axis}, yaxis: {...layout.yaxis, ...axis}};
  };
  const draw = (place) => {
    const {data, layout} = figures[place.dataset.figure];
    drawn.add(place);
    return Plotly.react(place, data, themed(layout), {responsive: true, displayModeBar: false});
  };
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
      if (entry.isIntersecting) { seen.unobserve(entry.target); draw(entry.target); }
    }), {rootMargin: "400px"});
    plots.forEach((place) => seen.observe(place));
  } else {
    plots.forEach(draw);
  }
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    if (before === undefined) delete root.dataset.theme; else root.dataset.theme = before;
    drawn.forEach(draw);
  });

  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const nameTheme = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    nameTheme();
    drawn.forEach(draw);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { nameTheme(); drawn.forEach(draw); });
  nameTheme();

  const filters = [...document.querySelectorAll("#filters select")];
  filters.forEach((filter) => filter.addEventListener("change", () => {
    for (const one of document.querySelectorAll("#series figure")) {
      one.hidden = filters.some(({value, dataset}) => value && one.dataset[dataset.filter] !== value);
    }
  }));

  const grid = document.getElementById("grid");
  if (!grid) return;
  const heads = [...grid.tHead.rows[0].cells];
  const show = (column, shown) => {
    for (const row of grid.rows) row.cells[column].hidden = !shown;
  };
  document.getElementById("columns").addEventListener("change", (event) => {
    show(Number(event.target.dataset.column), event.target.checked);
  });
  const order = (a, b, sign) => {
    const [x, y] = [a.dataset.value, b.dataset.value];
    if (a.tagName === "TH") return sign * a.textContent.localeCompare(b.textContent);
    if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
    return sign * (Number(x) - Number(y));
  };
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const body = grid.tBodies[0];
    [...body.rows].sort((a, b) => order(a.cells[column], b.cells[column], sign)).forEach((row) => body.append(row));
  }));
})();
