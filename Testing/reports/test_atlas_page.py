"""The atlas in a real browser: opened from the disk, searched, filtered, looked into, by mouse and by keys."""

import json
import time

import pytest
from atlas_sample import RIM, UNCLEAR, full_rows, write_sample
from chromium import Chromium, chromium_path

from MedSegLensLib.cases.case import MODALITY_NAMES
from MedSegLensLib.reports.atlas import DATA, DATA_BEGINS, PAGE

pytestmark = pytest.mark.skipif(chromium_path() is None, reason="needs Chromium (apt-get install chromium)")

OTHER_LENS = 24


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """Latent 9 is renamed by the user, 5 is a favourite."""
    folder = tmp_path_factory.mktemp("atlas")
    notes = {(0, 9): {"name": "My <b>ring</b>", "comment": "as in case 12", "favourite": False}}
    notes[0, 5] = {"name": "", "comment": "", "favourite": True}
    write_sample(folder, full_rows(), notes)
    return folder / "atlas"


@pytest.fixture(scope="module")
def browser():
    with Chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, atlas):
    """The page as it opens; at the end of the test it must have asked for nothing but its own files, and complained of
    nothing."""
    page = browser.open(atlas / PAGE)
    page.js("localStorage.clear()")
    yield page
    assert page.requests
    assert all(address.startswith(atlas.as_uri()) for address in page.requests)
    assert page.complaints == []


def shown(page) -> list[int]:
    """The latents on the page, those of the second lens from 24."""
    links = page.js("[...document.querySelectorAll('#latents a')].map((a) => a.getAttribute('href'))")
    places = [tuple(map(int, link.split("/")[2:])) for link in links]
    return [tap * OTHER_LENS + latent for tap, latent in places]


def settle(page, latents) -> None:
    """Wait until these latents are on the page and no others."""
    until = time.monotonic() + 20
    while sorted(shown(page)) != sorted(latents) and time.monotonic() < until:
        time.sleep(0.02)
    assert sorted(shown(page)) == sorted(latents)


def test_every_latent_is_there_with_a_picture_of_its_best_slice(page):
    assert len(shown(page)) == 48
    assert page.texts("#count") == ["48 latents"]
    page.images_loaded()
    alt = page.js(f"document.querySelector('#latents a[href=\"#/latent/0/{RIM}\"] img').alt")
    assert alt.startswith(f"Latent {RIM} on phantom-") and alt.endswith(MODALITY_NAMES["t2f"])
    assert page.texts("#latents .mark.R")[0] == "R"


def test_it_says_once_that_it_is_research_software_and_whose_pictures_these_are(page):
    text = page.js("document.body.innerText")
    assert text.count("not a medical device") == 1
    assert "PHANTOMS: invented anatomy, not patients" in text
    assert "phantom-1 (phantom: invented)" in text and "phantom-2" in text


def test_search_finds_by_name_note_evidence_and_number(page):
    page.type("#q", "bright rim")
    settle(page, [RIM])
    page.type("#q", "ring")
    settle(page, [9])
    page.type("#q", "case 12")
    settle(page, [9])
    page.type("#q", "sd brighter")
    settle(page, [RIM])
    page.type("#q", "23")
    settle(page, [23, OTHER_LENS + 23])
    page.type("#q", "no such thing")
    settle(page, [])
    assert page.texts("#count") == ["No latent is so. Clear a filter to see more."]


def test_names_are_text_and_never_markup(page):
    page.type("#q", "ring")
    settle(page, [9])
    assert page.texts("#latents .title") == ["My <b>ring</b>"]


def test_filters_by_lens_region_name_stability_and_favourite(page):
    for selector, value, found in (
        ("#lens", "1", range(OTHER_LENS, 48)),
        ("#region", "ed", [RIM]),
        ("#region", "tumour", [RIM, UNCLEAR]),
        ("#named", "named", [RIM, 9]),
        ("#named", "yours", [9]),
        ("#stable", "yes", [RIM]),
        ("#stable", "no", [UNCLEAR]),
    ):
        page.choose(selector, value)
        settle(page, list(found))
        page.click("#reset")
        settle(page, range(48))
    page.click("#favourites")
    settle(page, [5])


def test_the_order_follows_what_is_chosen_with_the_unknown_last(page):
    assert shown(page)[:2] == [RIM, UNCLEAR]  # by AUROC, which only these have
    page.choose("#sort", "number")
    page.wait("document.body.dataset.at.includes('sort=number')")
    assert shown(page)[0] == 0
    page.click("#direction")
    page.wait("document.body.dataset.at.includes('up=1')")
    assert shown(page)[0] in (23, OTHER_LENS + 23)
    page.choose("#sort", "stability")
    page.wait("document.body.dataset.at.includes('sort=stability')")
    assert shown(page)[:2] == [RIM, UNCLEAR]


def test_a_click_opens_a_latent_with_everything_that_is_known(page, atlas):
    page.click(f'#latents a[href="#/latent/0/{RIM}"]')
    page.wait("!document.getElementById('detail').hidden")
    assert page.js("location.hash") == f"#/latent/0/{RIM}"
    page.images_loaded()
    text = page.js("document.getElementById('detail').innerText")
    for words in (
        "FLAIR-bright rim outside the <enhancing> tumour",
        "80 % of it lies in edema; FLAIR is 1.8 sd brighter there.",
        "balanced accuracy 0.79",
        "stable over seeds (cosine 0.83; stable from 0.7)",
        "12.5 mL",
        f"{MODALITY_NAMES['t2f']} +1.8",
        "left more (−0.50)",
    ):
        assert words in text, words
    cells = page.js("[...document.querySelectorAll('#detail table tr')].map((r) => r.innerText.replaceAll('\\t', '|'))")
    assert "edema|80 %|0.91|0.42|–" in cells
    assert "whole tumour|–|0.88|–|−1.25" in cells
    examples = page.texts("#detail figcaption")
    assert 2 <= len(examples) <= 5 and all("slice" in e and " mm" in e for e in examples)
    assert page.js("document.querySelectorAll('#detail svg rect').length") == 20 + 10
    page.screenshot(atlas.parent / "detail.png")


def test_relatives_are_links_to_the_latents_they_name(page):
    page.js(f"location.hash = '#/latent/0/{RIM}'")
    page.wait(f"document.body.dataset.at === '#/latent/0/{RIM}'")
    page.click(f'#detail .relations a[href="#/latent/0/{UNCLEAR}"]')
    page.wait(f"document.body.dataset.at === '#/latent/0/{UNCLEAR}'")
    assert "unclear: it is not stable over seeds" in page.js("document.getElementById('detail').innerText")
    page.js("history.back()")
    page.wait(f"document.body.dataset.at === '#/latent/0/{RIM}'")


def test_a_latent_with_nothing_but_an_old_row_says_what_is_not_known(page):
    page.js("location.hash = '#/latent/1/7'")  # its row is as version 0.2 wrote it
    page.wait("!document.getElementById('detail').hidden")
    text = page.js("document.getElementById('detail').innerText")
    assert "not known: this catalogue has no names" in text
    assert "not known: no lens of another seed was compared" in text
    assert "undefined" not in text and "null" not in text and "NaN" not in text


def test_a_latent_that_the_catalogue_lacks_is_there_all_the_same(page):
    page.js("location.hash = '#/latent/1/23'")
    page.wait("document.body.dataset.at === '#/latent/1/23'")
    assert "not in the catalogue" in page.js("document.getElementById('detail').innerText")


def test_keys_search_step_star_and_return(page):
    page.key("/")
    page.ask("Input.insertText", text="2")
    page.wait("document.body.dataset.at.includes('q=2')")
    page.js("document.activeElement.blur()")
    first, second = shown(page)[:2]
    page.js("document.querySelector('#latents a').focus()")
    page.key("Enter")
    page.wait("!document.getElementById('detail').hidden")
    page.key("ArrowRight")
    page.wait(f"document.body.dataset.at === '#/latent/{second // OTHER_LENS}/{second % OTHER_LENS}'")
    page.key("f")
    page.wait("document.querySelector('#detail .star').getAttribute('aria-pressed') === 'true'")
    page.key("ArrowLeft")
    page.wait(f"document.body.dataset.at === '#/latent/{first // OTHER_LENS}/{first % OTHER_LENS}'")
    page.key("Escape")
    page.wait("document.getElementById('detail').hidden")
    assert page.js("location.hash") == "#/?q=2"
    assert (
        page.js("document.activeElement.getAttribute('href')") == f"#/latent/{first // OTHER_LENS}/{first % OTHER_LENS}"
    )
    page.type("#q", "")
    page.click("#favourites")
    settle(page, [5, second])


def test_the_address_brings_the_same_list_back(page, atlas, browser):
    again = browser.open(f"{atlas / PAGE}")
    again.go((atlas / PAGE).as_uri() + "#/?region=tumour&sort=number")
    again.wait("document.querySelectorAll('#latents li').length === 2")
    assert again.js("document.getElementById('region').value") == "tumour"
    assert shown(again) == [RIM, UNCLEAR]


def test_anatomy_outlines_and_activation_are_chosen_for_all_pictures(page):
    page.images_loaded()
    page.click("#background input[value=t1c]")
    page.wait("[...document.querySelectorAll('#latents .base')].every((i) => i.src.endsWith('-t1c.webp'))")
    page.images_loaded()
    assert page.js("document.querySelectorAll('#latents .outline').length") > 0
    page.click("#outlines input[value=none]")
    page.wait("document.querySelectorAll('#latents .outline').length === 0")
    page.key("o")
    page.wait("getComputedStyle(document.querySelector('#latents .heat')).display === 'none'")


def test_every_control_has_a_name_and_can_be_reached_by_keys(page):
    nameless = page.js(
        "[...document.querySelectorAll('input, select, button')].filter((e) => e.offsetParent && !(e.labels?.length"
        " || e.ariaLabel || e.innerText.trim())).map((e) => e.outerHTML)"
    )
    assert nameless == []
    assert page.js("document.querySelectorAll('[tabindex]:not([tabindex=\"-1\"])').length") == 0


def test_a_pack_of_4096_latents_is_searched_and_paged(atlas, browser, tmp_path):
    data = json.loads((atlas / DATA).read_text(encoding="utf-8").removeprefix(DATA_BEGINS).rstrip().removesuffix(";"))
    few = data["latents"]
    data["latents"] = [few[j % 24] | {"tap": 0, "latent": j} for j in range(4096)]
    (tmp_path / DATA).write_text(f"{DATA_BEGINS}{json.dumps(data)};\n", encoding="utf-8")
    (tmp_path / PAGE).write_text((atlas / PAGE).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "images").symlink_to(atlas / "images")
    page = browser.open(tmp_path / PAGE)
    assert len(shown(page)) == 48
    assert "page 1 of 86" in page.texts(".pages")[0]
    page.js(
        "(q => { q.value = 'rim'; q.dispatchEvent(new Event('input', {bubbles: true})) })(document.getElementById('q'))"
    )
    page.wait("document.getElementById('count').textContent.startsWith('171 of')")
    page.click(".pages button:last-child")
    page.wait("document.body.dataset.at.includes('page=2')")
    assert len(set(shown(page))) == 48
    assert page.complaints == [] or all("404" not in c for c in page.complaints)
