"""The report in a real browser."""

from __future__ import annotations

import shutil

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("no Chromium found: install it (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(browser, page):
    """The page, with all console messages, page errors and requests since it was opened."""
    tab = browser.new_page()
    seen = {"console": [], "requests": []}
    tab.on("console", lambda message: seen["console"].append(f"{message.type}: {message.text}"))
    tab.on("pageerror", lambda error: seen["console"].append(f"error: {error}"))
    tab.on("request", lambda request: seen["requests"].append(request.url))
    tab.goto(page.as_uri())
    tab.wait_for_load_state("load")
    return tab, seen


def test_loads_silently_and_asks_for_nothing_else(opened, page):
    _, seen = opened
    assert seen["console"] == []
    outside = [url for url in seen["requests"] if not url.startswith("data:")]
    assert outside == [page.as_uri()]


def test_every_player_can_play(opened):
    tab, _ = opened
    tab.wait_for_function(
        "[...document.querySelectorAll('audio')].every(a => a.readyState >= 1 || a.error)",
        timeout=20000,
    )
    states = tab.eval_on_selector_all(
        "audio", "all => all.map(a => [a.duration, a.error && a.error.message])"
    )
    assert len(states) >= 10
    for duration, error in states:
        assert error is None
        assert 0.4 < duration < 0.7


def test_spectrograms_are_decoded_and_described(opened):
    tab, _ = opened
    images = tab.eval_on_selector_all("img", "all => all.map(i => [i.naturalWidth, i.alt])")
    assert len(images) >= 10
    assert all(width > 20 and alt.startswith("Spectrogram") for width, alt in images)


def test_controls_are_named(opened):
    tab, _ = opened
    unnamed = tab.eval_on_selector_all(
        "audio, svg[role=img], [role=region], nav",
        "all => all.filter(e => !e.getAttribute('aria-label')).length",
    )
    assert unnamed == 0
    assert tab.get_attribute("html", "lang") == "en"
    headings = tab.eval_on_selector_all("h1", "all => all.length")
    assert headings == 1


def test_tables_sort_with_missing_figures_last(opened):
    tab, _ = opened
    table = tab.locator("#table-fields table")
    button = table.get_by_role("button", name="Valid JSON")
    cells = "all => all.map(r => Number(r.cells[6].dataset.value))"

    def values():
        return table.locator("tbody tr").evaluate_all(cells)

    button.click()
    down = [v for v in values() if v == v]
    assert down == sorted(down, reverse=True) and values()[-1] != values()[-1]
    button.click()
    up = [v for v in values() if v == v]
    assert up == sorted(up) and values()[-1] != values()[-1]
    header = table.locator("th[aria-sort]")
    assert header.count() == 1 and header.get_attribute("aria-sort") == "ascending"


def test_filter_shows_one_kind(opened):
    tab, _ = opened
    tab.locator(".filters button[data-filter=sound]").click()
    kinds = tab.locator(".example:visible").evaluate_all("all => all.map(c => c.dataset.kind)")
    assert kinds and set(kinds) == {"sound"}
    tab.locator(".filters button[data-filter='']").click()
    assert tab.locator(".example:visible").count() > len(kinds)


def test_narrow_and_dark(browser, page):
    context = browser.new_context(viewport={"width": 390, "height": 800}, color_scheme="dark")
    tab = context.new_page()
    tab.goto(page.as_uri())
    wide = tab.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert sum(int(x) for x in colour[4:-1].split(",")[:3]) < 150
    context.close()
