// Groups of the whole gallery, made when they are asked for.

import * as api from "./api.js";
import { groupItem } from "./parts.js";

const $ = (id) => document.getElementById(id);
let next = null;

export async function showGroups(searchFor, trying) {
  $("group").disabled = true;
  $("groups-status").textContent = "Grouping: this takes a moment …";
  try {
    const job = await api.finished(await api.makeGroups());
    $("group-list").replaceChildren();
    next = 0;
    await showMoreGroups(searchFor, trying);
    $("groups-status").textContent = `${job.detail}.`;
  } catch (error) {
    $("groups-status").textContent = "";
    throw error;
  } finally {
    $("group").disabled = false;
  }
}

export async function showMoreGroups(searchFor, trying) {
  const page = await api.groups(next);
  const items = page.groups.map((group, place) => {
    const number = next + place + 1;
    const item = groupItem(group, number);
    const rows = group.shown.map((row) => row.row);
    item.querySelector("button").addEventListener("click", () => trying(() => searchFor(rows, `Group ${number}`)));
    return item;
  });
  $("group-list").append(...items);
  next = page.next;
  $("more-groups").hidden = next === null;
}
