// How a picture comes, and how a box in it is said: picked, dropped or pasted; drawn, typed or all of it.

import { between, inPicture, isBox, placed } from "./boxes.js";

const $ = (id) => document.getElementById(id);

/** Call `take` with every picture (a File) that is picked, dropped or pasted. */
export function listenForPictures(take) {
  const first = (files) => files.length && take(files[0]);
  const over = (on) => (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", on);
  };
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => first($("file").files));
  document.addEventListener("dragover", over(true));
  document.addEventListener("dragleave", over(false));
  document.addEventListener("drop", (event) => {
    over(false)(event);
    first(event.dataTransfer.files);
  });
  document.addEventListener("paste", (event) => first(event.clipboardData.files));
}

/** Call `pickBox` with every box (pixels of the picture) that is drawn or typed. */
export function listenForBoxes(pickBox) {
  $("whole").addEventListener("click", () => pickBox([0, 0, ...sizes()]));
  $("typed").addEventListener("submit", (event) => {
    event.preventDefault();
    const sides = new FormData(event.target);
    pickBox(["x1", "y1", "x2", "y2"].map((name) => Number(sides.get(name))));
  });
  drawing(pickBox);
}

const sizes = () => [$("picture").naturalWidth, $("picture").naturalHeight];

function drawing(pickBox) {
  const stage = $("stage");
  let start = null;
  const pressed = () => $("draw").getAttribute("aria-pressed") === "true";
  const point = (event) =>
    inPicture(event.clientX, event.clientY, $("picture").getBoundingClientRect(), ...sizes());
  const boxTo = (event) => between(start, point(event), ...sizes());
  const end = () => {
    start = null;
    $("sketch").hidden = true;
  };
  $("draw").addEventListener("click", () => {
    $("draw").setAttribute("aria-pressed", String(!pressed()));
    stage.classList.toggle("drawing", pressed());
  });
  stage.addEventListener("pointerdown", (event) => {
    if (pressed()) {
      start = point(event);
      stage.setPointerCapture(event.pointerId);
      event.preventDefault();
    }
  });
  stage.addEventListener("pointermove", (event) => {
    if (start) {
      Object.assign($("sketch").style, placed(boxTo(event), ...sizes()));
      $("sketch").hidden = false;
    }
  });
  stage.addEventListener("pointerup", (event) => {
    const box = start && boxTo(event);
    end();
    if (box && isBox(box)) {
      $("draw").click();
      pickBox(box);
    }
  });
  stage.addEventListener("pointercancel", end);
}
