"use strict";
// Filters and sorts the table; the address keeps the view (#state=failed&q=text&sort=-bytes), so that people can share
// it. Warns when the page is old. Without this script the page shows all runs, newest first.
(() => {
  const find = (id) => document.getElementById(id);
  const columns = ["run", "state", "to", "files", "bytes", "rate", "lag", "when"];
  const usual = "-when";
  const body = find("runs").tBodies[0];
  const rows = [...body.rows].map((row) => ({ row, text: row.textContent.toLowerCase(), state: row.dataset.s }));
  const headers = [...find("runs").tHead.rows[0].cells];
  const [q, state, sort] = [find("q"), find("state"), find("sort")];
  let sorted = usual;

  const valueIn = (row, column) => {
    const cell = row.cells[columns.indexOf(column)];
    if (column === "run" || column === "to") return cell.textContent;
    if (column === "state") return row.dataset.s;
    return "v" in cell.dataset ? Number(cell.dataset.v) : null;
  };

  const sortBy = (key) => {
    if (key === sorted) return;
    const column = key.replace("-", "");
    const sign = key.startsWith("-") ? -1 : 1;
    const keyed = rows.map((item) => [valueIn(item.row, column), item]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // unknown values come last
      return a < b ? -sign : a > b ? sign : 0;
    });
    body.append(...keyed.map(([, item]) => item.row));
    sorted = key;
    headers.forEach((header, index) => {
      if (columns[index] === column) header.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
  };

  const wanted = () => {
    const view = new URLSearchParams(location.hash.slice(1));
    const by = view.get("sort") || usual;
    return {
      q: view.get("q") || "",
      state: view.get("state") || "",
      sort: columns.includes(by.replace("-", "")) ? by : usual,
    };
  };

  const show = () => {
    const view = wanted();
    if (q.value !== view.q) q.value = view.q;
    state.value = [...state.options].some((option) => option.value === view.state) ? view.state : "";
    sort.value = view.sort;
    sortBy(view.sort);
    const words = view.q.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const item of rows) {
      const fits = (!view.state || item.state === view.state) && words.every((word) => item.text.includes(word));
      item.row.hidden = !fits;
      shown += fits;
    }
    find("none").hidden = shown > 0 || !rows.length;
    find("all").hidden = !view.q && !view.state;
    find("shown").textContent = `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} runs`;
  };

  const go = (changes) => {
    const view = { ...wanted(), ...changes };
    const kept = Object.entries(view).filter(([key, value]) => value && !(key === "sort" && value === usual));
    const hash = new URLSearchParams(kept).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    show();
  };

  const ago = (seconds) => {
    const hours = Math.floor(seconds / 3600);
    if (hours >= 48) return `${Math.floor(hours / 24)} days`;
    return `${hours} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
  };

  const heading = document.querySelector("h1").lastChild;
  const [verdict, title] = [heading.textContent, document.title];

  const warnIfOld = () => {
    const { since, usual: limit } = document.body.dataset;
    const age = Date.now() / 1000 - Number(since);
    const old = find("old");
    old.hidden = age < Number(limit);
    document.documentElement.classList.toggle("old", !old.hidden);
    const text = `No news for ${ago(age)}: no scan has ended since then. The monitor may be stuck, switched off, or `
      + "busy with a large run; s3sync status shows which. Everything below is that old.";
    if (!old.hidden && old.textContent !== text) old.textContent = text;
    heading.textContent = old.hidden ? verdict : `No news for ${ago(age)}`;
    document.title = old.hidden ? title : title.replace(verdict, heading.textContent);
  };

  q.addEventListener("input", () => go({ q: q.value }));
  state.addEventListener("change", () => go({ state: state.value }));
  sort.addEventListener("change", () => go({ sort: sort.value }));
  find("all").addEventListener("click", () => { go({ q: "", state: "" }); q.focus(); });
  headers.forEach((header, index) => {
    const button = header.querySelector("button");
    button.disabled = false;
    button.addEventListener("click", () => {
      const column = columns[index];
      const first = index > 2 ? `-${column}` : column; // numbers: the largest first
      go({ sort: sorted !== first ? first : index > 2 ? column : `-${column}` });
    });
  });
  addEventListener("hashchange", show);
  setInterval(warnIfOld, 60000);
  document.documentElement.classList.add("js");
  warnIfOld();
  show();
})();
