// What the page of a data set does beside its charts: makes pictures large.

function wire() {} // its charts answer nothing

all(".card").forEach((card) =>
  all(".picture", card).forEach((picture) => picture.addEventListener("click", () => card.classList.toggle("large"))),
);
