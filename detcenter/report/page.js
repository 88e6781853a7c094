"use strict";
// What every page has: its data, short names for what is done often, and its two colours.

const page = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const make = (tag, properties = {}, children = []) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

// The room

function changeTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const root = document.documentElement.dataset;
  root.theme = (root.theme || (dark ? "dark" : "light")) === "dark" ? "light" : "dark";
}

document.getElementById("theme").addEventListener("click", changeTheme);
