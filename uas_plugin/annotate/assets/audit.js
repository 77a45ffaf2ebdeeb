"use strict";
const store = `uas-audit-${document.body.dataset.page}`;
const articles = [...document.querySelectorAll("article")];
const boxes = (article) => [...article.querySelectorAll("input[name]")];
const judged = (article) => article.querySelector(".judged");

function verdicts() {
  const done = articles.filter((article) => judged(article).checked);
  return {
    kind: document.body.dataset.kind,
    page: document.body.dataset.page,
    clips: done.map((article) => ({
      id: article.dataset.id,
      fields: Object.fromEntries(boxes(article).map((box) => [box.name, box.checked])),
    })),
  };
}

function show() {
  articles.forEach((article) => article.classList.toggle("done", judged(article).checked));
  const value = verdicts();
  document.getElementById("count").textContent = `${value.clips.length} of ${articles.length} judged`;
  // A page opened from a file may not be allowed to keep anything.
  try { localStorage.setItem(store, JSON.stringify(value)); } catch { /* the download remains */ }
}

function restore() {
  let kept = null;
  try { kept = JSON.parse(localStorage.getItem(store)); } catch { return; }
  const byId = new Map((kept?.clips ?? []).map((clip) => [clip.id, clip.fields]));
  for (const article of articles) {
    const fields = byId.get(article.dataset.id);
    if (!fields) continue;
    judged(article).checked = true;
    boxes(article).forEach((box) => { box.checked = Boolean(fields[box.name]); });
  }
}

for (const article of articles) {
  article.querySelector(".all").addEventListener("click", () => {
    boxes(article).forEach((box) => { box.checked = true; });
    judged(article).checked = true;
    show();
  });
  article.addEventListener("change", (event) => {
    if (event.target.name) judged(article).checked = true;
    show();
  });
}
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(verdicts(), null, 1)], { type: "application/json" }));
  link.download = `verdicts-${document.body.dataset.page}.json`;
  link.click();
  URL.revokeObjectURL(link.href);
});
restore();
show();
