// Pieces of the page, made from what the server says. Text is set as text: no name of a file becomes HTML.

import { thumbnail } from "./api.js";
import { area, placed } from "./boxes.js";
import { cameraOf, counted, described, interval, percent, placeOf, similarity, timeOf } from "./words.js";

/** An element with properties (of the DOM, or aria-...) and children. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-") || key.startsWith("data-")) {
      made.setAttribute(key, value);
    } else {
      made[key] = value;
    }
  }
  made.append(...children);
  return made;
}

export const face = (row) =>
  element("img", { src: thumbnail(row.row), alt: described(row), loading: "lazy", decoding: "async" });

/** A button over a person of the picture. */
export function personButton(person, index, found) {
  const count = found.persons.length;
  const button = element(
    "button",
    { type: "button", className: "person", "aria-pressed": "false" },
    element("span", { className: "number", textContent: index + 1 }),
  );
  button.setAttribute("aria-label", `Search for person ${index + 1} of ${count}`);
  Object.assign(button.style, placed(person.box, found.width, found.height));
  button.style.zIndex = 1 + found.persons.filter((other) => area(other.box) > area(person.box)).length;
  return button;
}

function fact(name, value) {
  return [element("dt", { textContent: name }), element("dd", {}, value)];
}

/** One that takes a line of its own and explains itself: its name is for who cannot see it. */
function plainFact(name, value) {
  return fact(name, value).map((part) => Object.assign(part, { className: "plain" }));
}

function facts(row) {
  const list = element("dl", { className: "facts" }, ...fact("Camera", cameraOf(row)));
  if (row.probability) {
    list.append(...fact("Similarity", similarity(row.similarity)));
  }
  const when = timeOf(row);
  if (when) {
    list.append(...plainFact("Time", element("time", { dateTime: row.time, textContent: when })));
  }
  list.append(...plainFact("Source", placeOf(row)));
  return list;
}

/** How sure, as a bar, in digits and in words; or how similar, where no probability is known. */
function likeness({ similarity: alike, probability }) {
  const filled = element("span", { className: "filled" });
  filled.style.width = `${100 * Math.max(0, probability ? probability.value : alike)}%`;
  const bar = element("span", { className: "bar", "aria-hidden": "true" }, filled);
  const digits = element("strong", { textContent: probability ? percent(probability.value) : similarity(alike) });
  if (!probability) {
    return [element("p", { className: "likeness" }, bar, digits, element("span", { className: "muted", textContent: " similar" }))];
  }
  const range = element("span", { className: "muted", textContent: `(${interval(probability)})` });
  return [
    element("p", { className: "likeness" }, bar, digits),
    element("p", { className: "sure" }, `${probability.words} the same person `, range),
  ];
}

/** The other rows of a track: their pictures come when they are asked for. */
function walk(match) {
  const faces = element("span", { className: "faces" });
  const details = element(
    "details",
    { className: "walk" },
    element("summary", { textContent: `${counted(match.track_rows.length, "more row")} of this walk` }),
    faces,
  );
  details.addEventListener("toggle", () => {
    if (details.open && !faces.childElementCount) {
      const images = match.track_rows.map((row) => element("img", { src: thumbnail(row), alt: `Row ${row}` }));
      faces.append(...images);
    }
  });
  return details;
}

const MARKS = { right: "✓", wrong: "✗" };

/** A match with its buttons, which say in data-does what they do; `mark` is "right", "wrong" or undefined. */
export function card(match, mark) {
  const buttons = Object.entries(MARKS).map(([name, sign]) =>
    element(
      "button",
      { type: "button", "data-does": name, "aria-pressed": String(mark === name) },
      element("span", { "aria-hidden": "true", textContent: sign }),
      name === "right" ? "Right" : "Wrong",
    ),
  );
  const again = element("button", { type: "button", "data-does": "search", textContent: "Search for this one" });
  const around = element("button", { type: "button", "data-does": "scene", textContent: "Show the scene" });
  const made = element(
    "li",
    { className: "card", "data-row": match.row, "data-mark": mark || "" },
    element("div", { className: "face" }, face(match)),
    ...likeness(match),
    facts(match),
    ...(match.track_rows.length ? [walk(match)] : []),
    element("div", { className: "marks" }, ...buttons, again, ...(match.scene ? [around] : [])),
  );
  return made;
}

export function setMark(made, mark) {
  made.dataset.mark = mark || "";
  for (const name of Object.keys(MARKS)) {
    made.querySelector(`[data-does=${name}]`).setAttribute("aria-pressed", String(mark === name));
  }
}

/** A group of the gallery. */
export function groupItem(group, number) {
  const cameras = group.cameras.length ? `, ${counted(group.cameras.length, "camera")}` : "";
  const button = element("button", { type: "button", textContent: "Search for this person" });
  button.setAttribute("aria-label", `Search for this person, group ${number}`);
  return element(
    "li",
    { className: "group" },
    element("h3", { textContent: `Group ${number}` }),
    element("p", { className: "muted", textContent: `${counted(group.count, "row")}${cameras}` }),
    element("div", { className: "faces" }, ...group.shown.map(face)),
    button,
  );
}

/** A query of the trail; the last one is current. */
export function trailItem(name, current) {
  const button = element("button", { type: "button", textContent: name });
  if (current) {
    button.setAttribute("aria-current", "step");
  }
  return element("li", {}, button);
}

/** A box to tick for a camera. */
export function cameraBox(camera) {
  const box = element("input", { type: "checkbox", name: "camera", value: camera });
  return element("label", {}, box, String(camera));
}
