// The claims page: a filter over its overview and the blocks below it.
addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".claims-filter");
  if (!form) return;
  const rows = [...form.parentElement.querySelectorAll("tbody tr")];
  const blocks = document.querySelectorAll("div.claim");
  const choices = [...form.querySelectorAll("select")], said = form.querySelector("output");

  function filter() {
    const wanted = choices.map(choice => choice.value).filter(Boolean);
    for (const part of [...rows, ...blocks]) {
      part.hidden = !wanted.every(name => part.classList.contains(name));
    }
    said.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} claims`;
  }

  form.addEventListener("change", filter);
  form.addEventListener("submit", event => event.preventDefault());
  form.hidden = false;
  filter();
});
