// The page: one state, what changes it, and who is told. Pieces are made in parts.js, words in words.js.

import * as api from "./api.js";
import { openErasing } from "./erasing.js";
import { showGroups, showMoreGroups } from "./groups.js";
import { cameraBox, card, element, personButton, setMark, trailItem } from "./parts.js";
import { listenForBoxes, listenForPictures } from "./picture.js";
import { announced, counted, described, placeOf, refinedName } from "./words.js";

const $ = (id) => document.getElementById(id);
const SURE =
  "The percentage says how probable it is that a match shows the same person, and in brackets within which bounds. " +
  "It is an estimate from images without labels, and identifies nobody.";

const state = {
  picture: null, // Blob: kept here so that a box can be drawn in it, and sent once more
  found: null, // answer of /api/find
  trail: [], // queries so far: {query, name}
  query: null, // the one of the trail that is shown
  matches: [],
  next: null, // cursor of the next page
  sure: false, // whether matches have a probability
  marks: new Map(), // row -> "right" | "wrong"
  asked: 0, // answers to older questions are not shown
};

// --- what is said ---

function say(id, text) {
  $(id).textContent = text;
}

/** Do something and say what goes wrong. */
async function trying(work) {
  say("problem", "");
  document.body.setAttribute("aria-busy", "true");
  try {
    return await work();
  } catch (error) {
    say("problem", error.message);
    return undefined;
  } finally {
    document.body.removeAttribute("aria-busy");
  }
}

// --- whom to look for ---

async function take(picture) {
  if (!picture.type.startsWith("image/")) {
    say("problem", "This is no picture: choose a JPEG, PNG or WebP file.");
    return;
  }
  URL.revokeObjectURL($("picture").src);
  Object.assign(state, { picture, found: null });
  $("picture").src = URL.createObjectURL(picture);
  $("chosen").hidden = false;
  $("persons").replaceChildren();
  say("persons-note", "Looking for persons …");
  await trying(async () => {
    state.found = await api.find(picture);
    showPersons();
    if (state.found.persons.length === 1) {
      await pick(0);
    }
  });
  if (!state.found) {
    say("persons-note", "");
  }
}

function showPersons() {
  const { persons, left_out } = state.found;
  const buttons = persons.map((person, index) => personButton(person, index, state.found));
  buttons.forEach((button, index) => button.addEventListener("click", () => trying(() => pick(index))));
  $("persons").replaceChildren(...buttons);
  const left = left_out ? ` ${counted(left_out, "more person was", "more persons were")} left out.` : "";
  if (!persons.length) {
    say("persons-note", "Nobody is found: draw a box around the person, or type one.");
  } else if (persons.length === 1) {
    say("persons-note", "One person is found.");
  } else {
    say("persons-note", `${persons.length} persons are found: choose one.${left}`);
  }
}

async function pick(index) {
  [...$("persons").children].forEach((button, place) => button.setAttribute("aria-pressed", String(place === index)));
  state.marks.clear();
  state.trail = [];
  await follow({ query: state.found.persons[index].query, name: `Person ${index + 1}` });
}

/** Search for whoever is in a box of the picture. */
async function pickBox(box) {
  await trying(async () => {
    const found = await api.find(state.picture, [box]);
    state.found = state.found || { ...found, persons: [] };
    state.found.persons.push(found.persons[0]);
    showPersons();
    await pick(state.found.persons.length - 1);
  });
}

// --- matches ---

/** Search with a new query, which is shown behind those before it. */
async function follow(query) {
  state.trail.push(query);
  await show(query);
}

async function show(query) {
  state.query = query;
  const items = state.trail.map((one) => trailItem(one.name, one === query));
  items.forEach((item, place) => item.firstChild.addEventListener("click", () => trying(() => show(state.trail[place]))));
  $("trail").replaceChildren(...items);
  $("matches").hidden = false;
  await searchAgain();
}

function filters() {
  const chosen = [...$("cameras").querySelectorAll("input:checked")].map((box) => Number(box.value));
  const times = ["after", "before"].filter((id) => $(id).value).map((id) => [id, new Date($(id).value).toISOString()]);
  return { ...(chosen.length ? { cameras: chosen } : {}), ...Object.fromEntries(times) };
}

async function searchAgain() {
  const asked = ++state.asked;
  say("status", "Searching …");
  const page = await api.search({ query: state.query.query, ...filters() });
  if (asked !== state.asked) {
    return;
  }
  Object.assign(state, { matches: page.matches, next: page.next, sure: page.no_probability === null });
  say("sure", state.sure ? SURE : `No probability: ${page.no_probability}.`);
  $("cards").replaceChildren(...page.matches.map(cardOf));
  $("csv").href = api.exported(state.query.query, filters());
  shown();
}

async function more() {
  const asked = state.asked;
  const page = await api.search({ query: state.query.query, ...filters(), cursor: state.next });
  if (asked !== state.asked) {
    return;
  }
  state.matches.push(...page.matches);
  state.next = page.next;
  const cards = page.matches.map(cardOf);
  $("cards").append(...cards);
  shown();
  cards[0]?.querySelector("[data-does=right]").focus();
}

function shown() {
  $("more").hidden = state.next === null;
  say("status", announced(state.matches, state.next !== null));
  countMarks();
}

function cardOf(match) {
  return card(match, state.marks.get(match.row));
}

function marked(name) {
  return [...state.marks].filter(([, mark]) => mark === name).map(([row]) => row);
}

function countMarks() {
  const [right, wrong] = [marked("right").length, marked("wrong").length];
  $("refine").disabled = right + wrong === 0;
  $("refine").textContent =
    right + wrong ? `Search again ${refinedName(right, wrong)}` : "Search again with what is marked";
}

const doing = {
  right: (made, row) => mark(made, row, "right"),
  wrong: (made, row) => mark(made, row, "wrong"),
  scene: (made, row) => made.querySelector("[data-does=scene]") && showScene(state.matches.find((one) => one.row === row)),
  search: (made, row) => trying(() => searchFor([row], `Row ${row}`)),
};

/** The picture that a match was seen in. */
function showScene(match) {
  say("seen-note", "Looking …");
  const picture = element("img", { alt: `${described(match)}, outlined in the whole picture` });
  picture.addEventListener("load", () => say("seen-note", `${placeOf(match)}. The match is outlined.`));
  picture.addEventListener("error", () => say("seen-note", "This picture is not where it was when it was indexed."));
  picture.src = api.scene(match.row);
  $("seen-picture").replaceChildren(picture);
  $("seen").showModal();
}

function mark(made, row, name) {
  if (state.marks.get(row) === name) {
    state.marks.delete(row);
  } else {
    state.marks.set(row, name);
  }
  setMark(made, state.marks.get(row));
  countMarks();
}

async function refine() {
  const [right, wrong] = [marked("right"), marked("wrong")];
  const { query } = await api.refine({ query: state.query.query, right, wrong });
  await follow({ query, name: refinedName(right.length, wrong.length) });
  $("trail").lastElementChild.firstChild.focus();
}

/** Start anew from rows of the gallery. */
async function searchFor(rows, name) {
  const { query } = await api.refine({ right: rows });
  state.marks.clear();
  state.trail = [];
  await follow({ query, name });
  $("matches-h").scrollIntoView({ behavior: "smooth" });
}

// --- events ---

function onCards(event, name) {
  const made = event.target.closest(".card");
  if (made) {
    doing[name](made, Number(made.dataset.row));
  }
}

/** Index of the card that an arrow leads to; cards stand in rows of `columns`. */
function arrived(key, index, columns) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  return key in steps ? index + steps[key] : null;
}

function onKey(event) {
  const made = event.target.closest(".card");
  if (!made || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const letters = { r: "right", w: "wrong", s: "search", o: "scene" };
  const letter = letters[event.key.toLowerCase()];
  const cards = [...$("cards").children];
  const columns = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
  const place = arrived(event.key, cards.indexOf(made), columns);
  if (letter) {
    doing[letter](made, Number(made.dataset.row));
  } else if (place !== null) {
    const does = event.target.dataset.does || "right";
    cards[place]?.querySelector(`[data-does=${does}]`).focus();
  } else {
    return;
  }
  event.preventDefault();
}

function listen() {
  listenForPictures(take);
  listenForBoxes(pickBox);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("change", () => trying(searchAgain));
  $("filters").addEventListener("reset", () => setTimeout(() => trying(searchAgain))); // when the form is empty
  $("cards").addEventListener("click", (event) => {
    const does = event.target.closest("[data-does]")?.dataset.does;
    if (does) onCards(event, does);
  });
  $("cards").addEventListener("keydown", onKey);
  $("more").addEventListener("click", () => trying(more));
  $("refine").addEventListener("click", () => trying(refine));
  $("erase").addEventListener("click", () =>
    openErasing(state.query.query, state.sure, marked("right"), async (rows) => {
      rows.forEach((row) => state.marks.delete(row));
      await trying(searchAgain);
      await trying(describe);
    }),
  );
  $("group").addEventListener("click", () => trying(() => showGroups(searchFor, trying)));
  $("more-groups").addEventListener("click", () => trying(() => showMoreGroups(searchFor, trying)));
}

async function describe() {
  const gallery = await api.about();
  say("about", `${counted(gallery.rows, "row")}, ${counted(gallery.cameras.length, "camera")} · ${gallery.model}`);
  if ($("cameras").querySelectorAll("input").length !== gallery.cameras.length) {
    $("cameras").replaceChildren($("cameras").firstElementChild, ...gallery.cameras.map(cameraBox));
  }
  $("cameras").hidden = gallery.cameras.length < 2;
}

listen();
trying(describe);
