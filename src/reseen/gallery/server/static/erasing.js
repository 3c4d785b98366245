// Erasing: who it would be is shown first, and only those rows are erased.

import * as api from "./api.js";
import { element, face } from "./parts.js";
import { counted } from "./words.js";

const $ = (id) => document.getElementById(id);
const PAUSE = 400; // milliseconds without a key before the server is asked

/** What the dialog is about: query and rows that it was opened with, and the rows that would be erased. `sure`: whether
 * who is like the query is said by a probability; else by a similarity. */
const erasing = { query: null, sure: false, marked: [], rows: [], asked: 0, done: async () => {} };

export function openErasing(query, sure, marked, done) {
  Object.assign(erasing, { query, sure, marked, rows: [], done });
  $("above-what").textContent = sure ? "who is the person with a probability (in percent) of" : "whose similarity to the query is";
  Object.assign($("above"), { value: "", min: sure ? 1 : -1, max: sure ? 99 : 1, step: sure ? 1 : 0.01 });
  $("erasing").showModal();
  look();
}

async function look() {
  const asked = ++erasing.asked;
  const above = $("above").value === "" ? null : Number($("above").value);
  show([], []);
  if (!erasing.marked.length && above === null) {
    note(`Nobody yet: mark matches as right, or give a ${erasing.sure ? "probability" : "similarity"}.`);
    return;
  }
  note("Looking …");
  try {
    const least = erasing.sure ? { above: above / 100 } : { above_similarity: above };
    const like = above === null ? {} : { query: erasing.query, ...least };
    const { rows, shown } = await api.whoIs({ rows: erasing.marked, ...like });
    if (asked === erasing.asked) {
      show(rows, shown);
      const part = shown.length < rows.length ? `, the first ${shown.length} of them are shown` : "";
      note(rows.length ? `${counted(rows.length, "row")}${part}. Look at each: this cannot be undone.` : "Nobody.");
    }
  } catch (error) {
    note(error.message);
  }
}

function show(rows, faces) {
  erasing.rows = rows;
  $("erasing-list").replaceChildren(...faces.map((row) => element("li", {}, face(row))));
  $("erase-now").disabled = rows.length === 0;
  $("erase-now").textContent = rows.length ? `Erase ${counted(rows.length, "row")} for good` : "Erase";
}

function note(text) {
  $("erasing-note").textContent = text;
}

async function erase() {
  const rows = erasing.rows;
  $("erase-now").disabled = true;
  note("Erasing, and reading the gallery for what should be gone …");
  try {
    const job = await api.finished(await api.forget(rows));
    $("erasing").close();
    await erasing.done(rows);
    $("status").textContent = `${job.detail[0].toUpperCase()}${job.detail.slice(1)}.`;
    $("erase").focus();
  } catch (error) {
    note(error.message);
  }
}

let waiting;
$("above").addEventListener("input", () => {
  clearTimeout(waiting);
  $("erase-now").disabled = true; // what is shown is not yet what is named
  waiting = setTimeout(look, PAUSE);
});
$("erase-now").addEventListener("click", erase);
