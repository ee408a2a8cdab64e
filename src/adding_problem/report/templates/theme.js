"use strict";

/** The button in the masthead: the other of dark and light. */
function followTheme() {
  const root = document.documentElement,
    dark = matchMedia("(prefers-color-scheme: dark)");
  document.getElementById("theme").addEventListener("click", () => {
    const now = root.dataset.theme ?? (dark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
  });
}
