"use strict";
// The atlas page: list and detail of the latents in window.ATLAS (data.js). Text goes in as text, never as HTML.
(() => {
const A = window.ATLAS;
const $ = (id) => document.getElementById(id);
const PAGE = 48;
const WHERE = { ncr: "necrotic core", ed: "edema", et: "enhancing tumour", wt: "whole tumour", tc: "tumour core",
  brain: "brain outside the tumour", air: "edge of the brain", csf: "CSF", gm: "grey matter", wm: "white matter",
  wt_border: "border of the whole tumour", et_border: "border of the enhancing tumour",
  ncr_border: "border of the necrotic core", ed_border: "border of the edema", brain_edge: "edge of the brain",
  midline: "midline" };
const NOT_KNOWN = "not known";
const own = (object, key) => object && Object.hasOwn(object, key) ? object[key] : undefined;

// -- building elements ----------------------------------------------------------------------------------------------

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((c) => c != null));
  return element;
}

function draw(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const fixed = (value, digits = 2) => value == null ? NOT_KNOWN : value.toFixed(digits).replace("-", "−");
const signed = (value, digits = 2) => value == null ? NOT_KNOWN : (value > 0 ? "+" : "") + fixed(value, digits);
const percent = (value) => value == null ? NOT_KNOWN
  : value === 0 ? "0 %" : value < 0.0001 ? "under 0.01 %" : `${(100 * value).toPrecision(2).replace(/\.0$/, "")} %`.replace(/^(\d+)e\+(\d) /, (_, a, b) => `${a * 10 ** b} `);

// -- what the reader keeps: favourites and how pictures are shown ---------------------------------------------------

const KEPT = `medseglens-atlas:${A.pack.hash}`;
let kept = {};
try { kept = JSON.parse(localStorage.getItem(KEPT)) || {}; } catch { kept = {}; }
const keep = () => { try { localStorage.setItem(KEPT, JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ } };
const keyOf = (l) => `${A.taps[l.tap].name}/${l.latent}`;
const isFavourite = (l) => own(kept.stars, keyOf(l)) ?? Boolean(l.favourite);
function setFavourite(l, on) {
  kept.stars = { ...kept.stars, [keyOf(l)]: on };
  keep();
}

const look = { background: A.modalities.some(([m]) => m === kept.background) ? kept.background : A.modalities[0][0],
  outlines: kept.outlines || (A.cases.some((c) => c.expert) ? "expert" : "segmenter"), heat: true };

// -- what can be asked of a latent ----------------------------------------------------------------------------------

const stable = (l) => l.stability == null ? "unknown" : l.stability >= A.stableFrom ? "yes" : "no";
const named = (l) => l.from === "yours" || l.named === true;
const share = (l, key) => own(l.share, key) || 0;
const inTumour = (l) => share(l, "ncr") + share(l, "ed") + share(l, "et");
function aurocOf(l, region) {
  if (!l.auroc) return null;
  const key = region === "tumour" ? "wt" : region;
  if (["ncr", "ed", "et", "wt"].includes(key)) return own(l.auroc, key) ?? null;
  return Math.max(...["ncr", "ed", "et", "wt"].map((r) => own(l.auroc, r) ?? -1));
}
function influenceOf(l, region) {
  if (!l.influence) return null;
  const key = { et: "et", ncr: "tc", tumour: "wt", ed: "wt" }[region];
  if (key) return own(l.influence, key) ?? null;
  return Object.values(l.influence).reduce((a, b) => Math.abs(b) > Math.abs(a) ? b : a, 0);
}
const SORTS = {
  auroc: ["overlap with the region (AUROC)", (l) => aurocOf(l, state.region)],
  tumour: ["activity inside the tumour", (l) => l.fires == null ? null : inTumour(l) * l.fires * (l.mean || 0)],
  influence: ["influence on the region", (l) => { const v = influenceOf(l, state.region); return v == null ? null : Math.abs(v); }],
  prediction: ["how well its name predicts", (l) => l.namePrediction],
  stability: ["stability", (l) => l.stability],
  fires: ["how often it fires", (l) => l.fires ?? l.firesHere],
  max: ["strongest activation", (l) => l.max],
  name: ["name", (l) => l.title.toLowerCase(), 1],
  number: ["number", (l) => l.latent, 1],
};
const DEFAULT_SORT = A.latents.some((l) => l.auroc) ? "auroc" : "tumour";

for (const l of A.latents) {
  l.words = [l.title, l.where, l.catalogueName, l.comment, l.evidence, A.taps[l.tap].name].filter(Boolean).join(" ").toLowerCase();
}
const byKey = new Map(A.latents.map((l) => [`${l.tap}/${l.latent}`, l]));

// -- the state of the list, kept in the address ---------------------------------------------------------------------

const EMPTY = { q: "", lens: "", region: "", named: "", stable: "", favourites: "", seen: "", sort: DEFAULT_SORT, up: "", page: 1 };
let state = { ...EMPTY };
let listed = [];

function listHash() {
  const parts = Object.entries(state).filter(([k, v]) => String(v) !== String(EMPTY[k]));
  return "#/" + (parts.length ? "?" + new URLSearchParams(parts.map(([k, v]) => [k, String(v)])) : "");
}
const detailHash = (l) => `#/latent/${l.tap}/${l.latent}`;

function readList(query) {
  state = { ...EMPTY };
  for (const [k, v] of new URLSearchParams(query)) if (Object.hasOwn(EMPTY, k)) state[k] = v;
  if (!Object.hasOwn(SORTS, state.sort)) state.sort = DEFAULT_SORT;
  state.page = Math.max(1, parseInt(state.page, 10) || 1);
  for (const id of ["q", "lens", "region", "named", "stable", "sort"]) $(id).value = state[id];
  for (const id of ["favourites", "seen"]) $(id).checked = Boolean(state[id]);
}

function passes(l, words) {
  if (state.lens !== "" && l.tap !== Number(state.lens)) return false;
  if (state.region === "tumour" ? !(inTumour(l) >= 0.5) : state.region && l.mostly !== state.region) return false;
  if (state.named === "named" && !named(l) || state.named === "unclear" && named(l) || state.named === "yours" && l.from !== "yours") return false;
  if (state.stable && stable(l) !== state.stable) return false;
  if (state.favourites && !isFavourite(l)) return false;
  if (state.seen && !l.examples) return false;
  if (words.length === 1 && /^\d+$/.test(words[0])) return String(l.latent).startsWith(words[0]);
  return words.every((w) => l.words.includes(w));
}

function list() {
  const words = state.q.toLowerCase().split(/\s+/).filter(Boolean);
  const [, value, rising] = SORTS[state.sort];
  const sense = (rising ? 1 : -1) * (state.up ? -1 : 1);
  const found = A.latents.filter((l) => passes(l, words)).map((l) => [value(l), l]);
  found.sort(([a, la], [b, lb]) => {
    if (a == null || b == null) return (a == null) - (b == null) || la.tap - lb.tap || la.latent - lb.latent; // not known: last
    return (a < b ? -1 : a > b ? 1 : 0) * sense || la.tap - lb.tap || la.latent - lb.latent;
  });
  return found.map(([, l]) => l);
}

// -- pictures -------------------------------------------------------------------------------------------------------

const modalityName = (m) => A.modalities.find(([k]) => k === m)?.[1] || m;

function sliceWords(example) {
  const at = A.cases[example.case].slices[example.slice];
  return at.number == null ? "axial slice" : `slice ${at.number}`; // from 0, as the catalogue counts
}

function stack(l, example, large) {
  const box = make("div", { class: "stack", style: `aspect-ratio: ${A.canvas.width} / ${A.canvas.height}` });
  if (!example) {
    box.append(make("span", { class: "none" }, "fires in none of these cases"));
    return box;
  }
  const c = A.cases[example.case], folder = `images/case-${example.case}/${example.slice}`;
  const modality = c.modalities.includes(look.background) ? look.background : c.modalities[0];
  const size = { width: A.canvas.width, height: A.canvas.height, loading: "lazy", decoding: "async" };
  box.append(make("img", { ...size, class: "base", src: `${folder}-${modality}.webp`,
    alt: `Latent ${l.latent} on ${c.name}, ${sliceWords(example)}, ${modalityName(modality)}` }));
  box.append(make("img", { ...size, class: "heat", alt: "", src: `images/lens-${l.tap}/${l.latent}-${example.n}.png` }));
  const outline = look.outlines === "expert" && !c.expert ? "segmenter" : look.outlines;
  if (c.slices[example.slice].outlines.includes(outline)) {
    box.append(make("img", { ...size, class: "outline", alt: "", src: `${folder}-${outline}.png` }));
  }
  for (const side of large ? "RLAP" : "RL") box.append(make("span", { class: `mark ${side}`, "aria-hidden": "true" }, side));
  box.append(make("span", { class: "bar", style: `width: ${5000 / c.widthMm}%` }, "5 cm"));
  return box;
}

function star(l) {
  const on = isFavourite(l);
  const button = make("button", { type: "button", class: "star", "aria-pressed": String(on), "aria-label": `Favourite: latent ${l.latent}` }, on ? "★" : "☆");
  button.addEventListener("click", () => { setFavourite(l, !isFavourite(l)); button.replaceWith(star(l)); });
  return button;
}

// -- the list -------------------------------------------------------------------------------------------------------

const STABLE_WORDS = { yes: "stable", no: "not stable", unknown: "stability not known" };

function card(l) {
  const auroc = aurocOf(l, state.region), influence = influenceOf(l, state.region);
  const facts = [];
  if (auroc != null && auroc >= 0) facts.push(make("span", {}, "AUROC ", make("b", {}, fixed(auroc))));
  if (influence != null) facts.push(make("span", {}, "influence ", make("b", {}, signed(influence))));
  if (l.stability != null) facts.push(make("span", {}, STABLE_WORDS[stable(l)]));
  if (l.named === false) facts.push(make("span", {}, "name unclear"));
  if (l.fires != null) facts.push(make("span", {}, "fires on ", make("b", {}, percent(l.fires))));
  const lens = A.taps.length > 1 ? ` · lens ${l.tap + 1}` : "";
  return make("li", {},
    make("a", { href: detailHash(l) }, stack(l, l.examples?.[0], false),
      make("span", { class: "card" },
        make("span", { class: "number" }, `${l.latent}${lens}`),
        make("span", { class: `title ${l.from}` }, l.title),
        l.where && l.from !== "where" ? make("span", { class: "facts" }, l.where) : null,
        make("span", { class: "facts" }, facts))),
    star(l));
}

function showList() {
  listed = list();
  const pages = Math.max(1, Math.ceil(listed.length / PAGE));
  state.page = Math.min(state.page, pages);
  const first = (state.page - 1) * PAGE;
  $("latents").replaceChildren(...listed.slice(first, first + PAGE).map(card));
  $("count").textContent = listed.length === A.latents.length ? `${listed.length} latents`
    : listed.length ? `${listed.length} of ${A.latents.length} latents` : "No latent is so. Clear a filter to see more.";
  $("direction").textContent = Boolean(state.up) !== Boolean(SORTS[state.sort][2]) ? "↑" : "↓";
  for (const nav of document.querySelectorAll(".pages")) {
    const go = (to) => { state.page = to; write(); window.scrollTo(0, 0); };
    const back = make("button", { type: "button", disabled: state.page <= 1 }, "← Previous");
    const next = make("button", { type: "button", disabled: state.page >= pages }, "Next →");
    back.addEventListener("click", () => go(state.page - 1));
    next.addEventListener("click", () => go(state.page + 1));
    nav.replaceChildren(back, make("span", {}, `page ${state.page} of ${pages}`), next);
    nav.hidden = pages < 2;
  }
  document.title = `${A.pack.name} ${A.pack.version} · MedSegLens atlas`;
}

/** Show the list as `state` has it and put that into the address, without a step back in the history. */
function write() {
  showList();
  if (location.hash !== listHash()) location.replace(listHash());
}

// -- one latent -----------------------------------------------------------------------------------------------------

function histogram(l) {
  const W = 440, H = 130, left = 6, bottom = 104;
  const highest = Math.sqrt(Math.max(...l.histogram, 1)), step = (W - 2 * left) / l.histogram.length;
  const picture = draw("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "img",
    "aria-label": `Histogram of its activation from 0 to ${l.max}: ${l.histogram.join(", ")}` });
  l.histogram.forEach((n, i) => {
    const height = n ? Math.max(1.5, (bottom - 6) * Math.sqrt(n) / highest) : 0;
    picture.append(draw("rect", { x: left + i * step + 1, y: bottom - height, width: step - 2, height }));
  });
  picture.append(draw("line", { x1: left, x2: W - left, y1: bottom, y2: bottom }),
    draw("text", { x: left, y: bottom + 18 }, "0"), draw("text", { x: W - left, y: bottom + 18, "text-anchor": "end" }, fixed(l.max)),
    draw("text", { x: W / 2, y: bottom + 18, "text-anchor": "middle" }, "activation"));
  return picture;
}

function profile(l) {
  const rows = l.sliceProfile.length, W = 300, H = 16 * rows + 8, highest = Math.max(...l.sliceProfile, 1e-9);
  const picture = draw("svg", { viewBox: `0 0 ${W} ${H}`, width: W, height: H, role: "img",
    "aria-label": `Where along the head it fires, from below upwards: ${l.sliceProfile.join(", ")}` });
  l.sliceProfile.forEach((v, i) => picture.append(draw("rect", { x: 70, y: 4 + 16 * (rows - 1 - i), width: Math.max(0, (W - 76) * v / highest), height: 13 })));
  picture.append(draw("text", { x: 0, y: 16 }, "top"), draw("text", { x: 0, y: H - 6 }, "bottom"));
  return picture;
}

function known(...rows) {
  return make("table", { class: "known" }, make("tbody", {}, rows.filter(Boolean).map(([k, v]) => make("tr", {}, make("th", { scope: "row" }, k), make("td", {}, v)))));
}

function regionTable(l) {
  const keys = ["ncr", "ed", "et", "wt", "tc", "wt_border", "et_border", "ncr_border", "ed_border", "brain", "csf", "gm", "wm", "brain_edge", "midline", "air"];
  const columns = [["share of its activation", "share", percent], ["AUROC", "auroc", fixed], ["best IoU", "iou", fixed], ["influence", "influence", signed]]
    .filter(([, group]) => l[group]);
  const rows = keys.filter((k) => columns.some(([, g]) => own(l[g], k) != null));
  if (!rows.length) return make("p", { class: "soft" }, "The catalogue says nothing of where it fires.");
  return make("table", {}, make("thead", {}, make("tr", {}, make("th", {}, "Where"), columns.map(([name]) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, rows.map((k) => make("tr", {}, make("th", { scope: "row", style: "font-weight: 400" }, WHERE[k]),
      columns.map(([, g, f]) => make("td", {}, own(l[g], k) == null ? "–" : f(l[g][k])))))));
}

function relations(l) {
  const kinds = [["Near-duplicates", "nearDuplicates", "nearly the same direction, in the same places"], ["Siblings", "coFiring", "fire in the same places"],
    ["Parents", "parents", "fire wherever it does, and more often"], ["Parts", "children", "fire only where it does"]];
  const there = kinds.filter(([, key]) => l[key]?.length);
  if (!there.length) return make("p", { class: "soft" }, kinds.some(([, key]) => l[key]) || l.stability != null || l.auroc ? "None." : "Not known: this catalogue does not have them.");
  return make("div", {}, there.map(([name, key, what]) => make("p", { class: "relations" }, make("b", {}, name), make("span", { class: "soft" }, ` (${what}): `), make("br"),
    l[key].map((j) => { const other = byKey.get(`${l.tap}/${j}`); return other ? make("a", { href: detailHash(other) }, `${j}: ${other.title}`) : null; }))));
}

const UNCLEAR = { yes: "unclear: the evidence is too weak", no: "unclear: it is not stable over seeds",
  unknown: "unclear: whether it is stable is not known" };

function stableWords(l) {
  if (l.stability == null) return `${NOT_KNOWN}: no lens of another seed was compared`;
  return `${STABLE_WORDS[stable(l)]} over seeds (cosine ${fixed(l.stability)}; stable from ${A.stableFrom})`;
}

function showDetail(l) {
  const at = listed.indexOf(l), before = listed[at - 1], after = at >= 0 ? listed[at + 1] : undefined;
  const step = (other, text, id) => make("a", { class: "step", id, ...(other ? { href: detailHash(other) } : { "aria-disabled": "true", class: "soft" }) }, text);
  const intensity = l.intensity && Object.entries(l.intensity).map(([m, v]) => `${modalityName(m)} ${signed(v, 1)}`).join(", ");
  const side = l.laterality == null ? null : Math.abs(l.laterality) < 0.2 ? "both sides" : `${l.laterality > 0 ? "right" : "left"} more (${signed(l.laterality)})`;
  const title = make("h2", { tabindex: "-1", id: "top" }, `${l.latent} · ${l.title}`);
  const nameWords = l.from === "yours" ? `yours${l.catalogueName ? `; the catalogue says “${l.catalogueName}”` : ""}`
    : l.from === "catalogue" ? "by rule, from the catalogue" : l.named === false ? UNCLEAR[stable(l)] : `${NOT_KNOWN}: this catalogue has no names`;
  const parts = [
    make("div", { class: "bar-top" }, make("a", { href: listHash(), id: "back" }, "← All latents"), make("span", { class: "spring" }),
      step(before, "← Previous", "before"), at >= 0 ? make("span", { class: "soft" }, `${at + 1} of ${listed.length}`) : null, step(after, "Next →", "after")),
    make("div", { style: "display: flex; gap: .6rem; align-items: center" }, title, star(l)),
    make("p", { class: "soft" }, `Latent ${l.latent} of the lens at ${A.taps[l.tap].name}${l.where && l.from !== "where" ? `; on the catalogue's cases ${l.where}` : ""}`),
    l.comment ? make("p", {}, make("b", {}, "Your comment: "), l.comment) : null,
    l.evidence ? make("p", { class: "evidence" }, l.evidence) : null,
    make("div", { class: "examples" }, l.examples ? l.examples.map((e) => make("figure", {}, stack(l, e, true),
      make("figcaption", {}, make("b", {}, A.cases[e.case].name), `${sliceWords(e)}; peak ${fixed(e.value)} at ${e.peak} mm`)))
      : make("p", {}, "It fires in none of the cases of this page.")),
    make("div", { class: "columns" },
      make("section", {}, make("h3", {}, "Scores"), known(
        ["Name", nameWords],
        l.nameScore != null ? ["Covered by the name", `${fixed(l.nameScore)} beyond chance (0 to 1)`] : null,
        ["Predicts firing on unseen cases", l.namePrediction == null ? NOT_KNOWN : `balanced accuracy ${fixed(l.namePrediction)} (0.5 is chance)`],
        ["Suppressing acts where it says", l.nameIntervention == null ? NOT_KNOWN : `more so than with ${percent(l.nameIntervention)} of the other named latents`],
        ["Stability", stableWords(l)],
        ["Fires on", `${percent(l.fires)} of the brain on the catalogue's cases${l.nCases != null ? `, in ${l.nCases} cases` : ""}; ${percent(l.firesHere)} on the cases of this page`],
        l.extentMl != null ? ["Fills", `${fixed(l.extentMl, 1)} mL of a case where it fires`] : null,
        ["Strength where it fires", l.mean == null ? NOT_KNOWN : `mean ${fixed(l.mean)}, at most ${fixed(l.max)}`],
        l.quantiles ? ["Quantiles (25, 50, 75, 90 %)", l.quantiles.slice(1, 5).map((v) => fixed(v)).join(", ")] : null,
        intensity ? ["Brightness where it fires", `${intensity} (standard deviations from normal brain)`] : null,
        side ? ["Side", side] : null,
        l.catalogueExamples ? ["Strongest in the catalogue's cases", l.catalogueExamples.map((e) => `${e.case} slice ${e.slice}`).join(", ")] : null)),
      make("section", {}, make("h3", {}, "Where"), regionTable(l),
        l.sliceProfile ? [make("h3", {}, "Along the head"), profile(l)] : null),
      make("section", {}, make("h3", {}, "How strongly"),
        l.histogram ? [histogram(l), make("p", { class: "soft" }, `Bars: number of places, square-root scale; ${l.histogramOf === "page" ? "on the cases of this page" : "on the catalogue's cases"}.`)] : make("p", { class: "soft" }, NOT_KNOWN),
        make("h3", {}, "Relatives"), relations(l))),
  ];
  $("detail").replaceChildren(...parts.filter(Boolean));
  document.title = `${l.latent} ${l.title} · MedSegLens atlas`;
  window.scrollTo(0, 0);
  title.focus({ preventScroll: true });
}

// -- going about ----------------------------------------------------------------------------------------------------

let shown = null;

function route() {
  const match = /^#\/latent\/(\d+)\/(\d+)$/.exec(location.hash);
  const l = match && byKey.get(`${match[1]}/${match[2]}`);
  const came = shown;
  shown = l || null;
  $("list").hidden = Boolean(l);
  $("detail").hidden = !l;
  if (l) {
    if (!listed.length) listed = list();
    return showDetail(l);
  }
  if (location.hash === "#latents") return void $("latents").focus();
  readList(location.hash.split("?")[1] || "");
  showList();
  if (came) document.querySelector(`#latents a[href="${detailHash(came)}"]`)?.focus();
}

function refresh() { // how pictures are shown has changed
  document.body.classList.toggle("no-heat", !look.heat);
  kept.background = look.background;
  kept.outlines = look.outlines;
  keep();
  if (shown) showDetail(shown); else showList();
}

function radios(field, name, options) {
  for (const [value, text] of options) {
    const input = make("input", { type: "radio", name, value, checked: look[name] === value });
    input.addEventListener("change", () => { look[name] = value; refresh(); });
    $(field).append(make("label", {}, input, text));
  }
}

A.taps.forEach((tap, n) => $("lens").append(make("option", { value: String(n) }, `${n + 1}: ${tap.name} (${tap.latents})`)));
$("lensField").hidden = A.taps.length < 2;
for (const [key, [name, value]] of Object.entries(SORTS)) {
  if (A.latents.some((l) => value(l) != null)) $("sort").append(make("option", { value: key }, name));
}
const SHORT = { t2f: "FLAIR", t1c: "T1 + contrast", t2w: "T2", t1n: "T1" };
radios("background", "background", A.modalities.map(([m, name]) => [m, SHORT[m] || name]));
radios("outlines", "outlines", [...(A.cases.some((c) => c.expert) ? [["expert", "expert"]] : []), ["segmenter", "segmenter"], ["none", "none"]]);
$("heat").addEventListener("change", (event) => { look.heat = event.target.checked; refresh(); });

let typing;
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", (event) => {
  const { id, type, checked, value } = event.target;
  state[id] = type === "checkbox" ? (checked ? "1" : "") : value;
  state.page = 1;
  if (id === "sort") state.up = "";
  clearTimeout(typing);
  typing = setTimeout(write, id === "q" ? 120 : 0);
});
$("filters").addEventListener("reset", () => { state = { ...EMPTY }; setTimeout(() => { readList(""); write(); }); });
$("direction").addEventListener("click", () => { state.up = state.up ? "" : "1"; state.page = 1; write(); });
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typed = event.target.closest("input[type=search], select");
  if (typed) {
    if (event.key === "Escape") typed.blur();
    return;
  }
  const press = (element) => { if (element && !element.disabled && element.getAttribute("aria-disabled") !== "true") element.click(); };
  const key = event.key.toLowerCase();
  if (key.startsWith("arrow") && event.target.closest("input")) return; // among radio buttons
  if (key === "/" && !shown) { event.preventDefault(); $("q").focus(); $("q").select(); }
  else if (key === "escape" && shown) press($("back"));
  else if (key === "f") press(shown ? document.querySelector("#detail .star") : event.target.closest("#latents li")?.querySelector(".star"));
  else if (key === "o") press($("heat"));
  else if (key === "arrowleft") press(shown ? $("before") : document.querySelector(".pages button:first-child"));
  else if (key === "arrowright") press(shown ? $("after") : document.querySelector(".pages button:last-child"));
});
// The address changes before what is shown: data-at tells which address that is.
const arrive = () => { route(); document.body.dataset.at = location.hash; };
window.addEventListener("hashchange", arrive);
arrive();
})();
