"""The page in a real Chromium: what each role does, by camera, by file, by keyboard, on a phone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.client.service.parts import as_jpeg, drawn_photo
from tests.integration.browser import SHOTS, browser, camera_file, playwright, served

from veilface_client.recognition.desk import Desk

expect = playwright.expect
House = tuple[str, dict[str, str], Desk]
Open = Callable[..., "playwright.Page"]
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with served(tmp_path_factory.mktemp("page") / "home") as found:
        yield found


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[playwright.Browser]:
    with browser(camera_file(tmp_path_factory.mktemp("camera") / "camera.mjpeg", 0)) as found:
        yield found


@pytest.fixture
def page(house: House, chrome: playwright.Browser) -> Iterator[Open]:
    """Return a function that opens the page signed in as a role; it must not complain or phone."""
    address, tokens, _ = house
    contexts, faults = [], []

    def make(role: str | None = None, **settings: object) -> playwright.Page:
        settings = {"viewport": {"width": 1280, "height": 860}, "locale": "en-GB", **settings}
        context = chrome.new_context(
            ignore_https_errors=True, permissions=["camera"], accept_downloads=True, **settings
        )
        context.set_default_timeout(20_000)
        contexts.append(context)
        opened = context.new_page()
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on("console", lambda said: _note(faults, said.text))
        opened.on("request", lambda sent: _verify_ours(faults, sent.url, address))
        opened.goto(address)
        if role:
            sign_in(opened, tokens[role])
        return opened

    yield make
    for context in contexts:
        context.close()
    assert faults == []


def _note(faults: list[str], text: str) -> None:
    """Keep what the browser complains of, but for answers that a test asks for."""
    if not re.search(r"status of 4\d\d", text):
        faults.append(text)


def _verify_ours(faults: list[str], url: str, address: str) -> None:
    if not url.startswith((address, "blob:", "data:")):
        faults.append(f"a request to {url}")


def sign_in(page: playwright.Page, token: str) -> None:
    page.locator("input[type=password]").fill(token)
    page.locator("form button[type=submit]").click()
    page.wait_for_selector("nav a[aria-current]")


def shot(page: playwright.Page, name: str) -> None:
    """Keep a picture for people to look at, where VEILFACE_SCREENSHOTS names a folder."""
    if SHOTS:
        page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)


def until(page: playwright.Page, condition: str) -> None:
    """Wait for a condition; Playwright's own way evaluates text, which the page's CSP forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"expected {condition}")


def take_photograph(page: playwright.Page) -> None:
    page.get_by_role("button", name="Use the camera").click()
    until(page, "document.querySelector('video').videoWidth > 0")
    page.get_by_role("button", name="Take the photograph").click()
    page.wait_for_selector(".photos img")


def stranger(folder: Path) -> Path:
    path = folder / "stranger.jpg"
    path.write_bytes(as_jpeg(drawn_photo(2)))
    return path


def enrol(page: playwright.Page, name: str, photo: Path | None = None) -> None:
    page.get_by_label("Name", exact=True).fill(name)
    if photo:
        page.locator("input[type=file]").set_input_files(photo)
    else:
        take_photograph(page)
    page.get_by_label("The person has read this text").check()
    page.get_by_role("button", name="Enrol", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text(f"{name} is enrolled")


def test_a_day_at_the_clinic(page: Open, tmp_path: Path, house: House) -> None:
    """Enrolled by camera, verified, a stranger unknown, forgotten with a receipt that is saved."""
    at_desk = page("enroller")
    enrol(at_desk, "Anna Berg")
    shot(at_desk, "enrolled")
    [listed] = house[2].vault.people()
    shown = at_desk.locator(".consent").inner_text()
    kept = house[2].folder / "consent" / f"{listed.record.consent_version}.txt"
    assert kept.read_text().split() == shown.split()  # the record names the text that was shown

    at_door = page("operator")
    at_door.get_by_label("Whom do they claim to be?").fill("Anna Berg")
    take_photograph(at_door)
    at_door.get_by_role("button", name="Verify", exact=True).click()
    expect(at_door.get_by_role("status")).to_contain_text("Yes, this is Anna Berg")
    shot(at_door, "verified")
    at_door.get_by_role("link", name="Identify").click()
    at_door.locator("input[type=file]").set_input_files(stranger(tmp_path))
    at_door.get_by_role("button", name="Identify", exact=True).click()
    expect(at_door.get_by_role("status")).to_contain_text("Nobody that we know")
    shot(at_door, "identified")

    officer = page("privacy-officer")
    officer.get_by_role("button", name="Forget").click()
    shot(officer, "forget")
    officer.get_by_role("dialog").get_by_role("button", name="Forget").click()
    expect(officer.get_by_text("Anna Berg is forgotten")).to_be_visible()
    shot(officer, "forgotten")
    with officer.expect_download() as saved:
        officer.get_by_role("button", name="Save the receipt").click()
    receipt = json.loads(Path(saved.value.path()).read_text())
    assert receipt["pseudonym"] in saved.value.suggested_filename
    assert "Anna" not in json.dumps(receipt)
    assert house[2].vault.people() == []


def test_keyboard_alone(page: Open, house: House) -> None:
    """Signing in, taking a photograph and enrolling need no pointer, and focus is seen."""
    opened = page()
    until(opened, "document.activeElement.type === 'password'")
    opened.keyboard.type(house[1]["enroller"])
    opened.keyboard.press("Enter")
    opened.wait_for_selector("nav a[aria-current]")
    press_until(opened, "document.activeElement.type === 'text'")
    opened.keyboard.type("Bo Lin")
    press_until(opened, "document.activeElement.textContent === 'Use the camera'")
    outline = opened.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    opened.keyboard.press("Enter")
    until(opened, "document.activeElement.textContent === 'Take the photograph'")
    until(opened, "document.querySelector('video').videoWidth > 0")
    opened.keyboard.press("Enter")
    opened.wait_for_selector(".photos img")
    press_until(opened, "document.activeElement.type === 'checkbox'")
    opened.keyboard.press("Space")
    press_until(opened, "document.activeElement.type === 'submit'")
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("status")).to_contain_text("Bo Lin is enrolled")


def press_until(page: playwright.Page, condition: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(condition):
            return
    raise AssertionError(f"thirty times Tab did not lead to {condition}")


def test_each_role_sees_its_own_sections(page: Open) -> None:
    """The page offers what the role may do, and nothing else."""
    seen = {
        "operator": ["Verify", "Identify", "Explain"],
        "enroller": ["Enrol", "People"],
        "privacy-officer": ["People", "Privacy budget", "Receipts", "Check"],
        "auditor": ["Access log", "Privacy budget", "Receipts", "Check"],
        "administrator": ["Accounts", "Thresholds", "Check"],
    }
    for role, sections in seen.items():
        opened = page(role)
        assert opened.locator("nav a").all_inner_texts() == sections
        for section in sections:
            opened.get_by_role("link", name=section).click()
            expect(opened.locator("h1")).to_be_focused()
            expect(opened.locator(".panel.bad")).to_have_count(0)
            shot(opened, f"{role}-{section.lower().replace(' ', '-')}")


def test_chinese_on_a_phone_in_the_dark(page: Open) -> None:
    """Nothing runs over 360 pixels, nothing stays English, and the dark is dark."""
    for role in ("operator", "enroller", "privacy-officer", "auditor", "administrator"):
        opened = page(role, viewport=PHONE, locale="zh-CN", color_scheme="dark")
        assert opened.evaluate("document.documentElement.lang") == "zh-Hans"
        for link in opened.locator("nav a").all():
            link.click()
            expect(opened.locator("h1")).to_be_focused()
            assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
            for text in opened.locator("main [data-t]").all_inner_texts():
                assert not re.search(r"[a-z]{4}", re.sub(r"[a-z]+[-_][\w-]*|GDPR", "", text)), text
            shot(opened, f"phone-{role}-{link.get_attribute('href').removeprefix('#')}")
        background = opened.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", background))) < 3 * 64


def test_the_language_changes_in_place(page: Open) -> None:
    """What was typed stays, and so does what came of it."""
    opened = page("operator")
    opened.get_by_label("Whom do they claim to be?").fill("Nobody Known")
    take_photograph(opened)
    opened.get_by_role("button", name="Verify", exact=True).click()
    expect(opened.get_by_role("status")).to_contain_text("Nobody of that name is enrolled")
    opened.get_by_label("Language").select_option("zh")
    expect(opened.get_by_role("status")).to_contain_text("没有登记过这个姓名的人")
    expect(opened.get_by_label("此人自称是谁")).to_have_value("Nobody Known")


def test_a_token_lives_as_long_as_the_tab(page: Open) -> None:
    """It survives a reload, is gone with the sign-out, and never reaches storage that lasts."""
    opened = page("operator")
    opened.reload()
    opened.wait_for_selector("nav a[aria-current]")
    assert opened.evaluate("localStorage.length + document.cookie.length") == 0
    opened.get_by_role("button", name="Sign out").click()
    assert "veilface_" not in opened.evaluate("JSON.stringify({...sessionStorage})")
    opened.reload()
    expect(opened.locator("h1")).to_have_text("Sign in")


def test_a_wrong_token_is_told(page: Open) -> None:
    """The page says so and asks again."""
    opened = page()
    opened.get_by_label("Your token").fill("veilface_00000000_wrong")
    opened.get_by_role("button", name="Sign in").click()
    expect(opened.get_by_role("status")).to_contain_text("This token is not in force")


def test_a_new_account_signs_in(page: Open) -> None:
    """Its token is shown once, and works."""
    opened = page("administrator")
    opened.get_by_label("Account", exact=True).fill("door-7")
    opened.get_by_role("button", name="Make the account").click()
    token = opened.locator(".secret code").inner_text()
    shot(opened, "account-made")
    opened.get_by_role("link", name="Check").click()
    opened.get_by_role("button", name="Check now").click()
    expect(opened.get_by_role("status")).to_contain_text("Everything is as it was written")
    assert token not in opened.content()
    opened.get_by_role("button", name="Sign out").click()
    sign_in(opened, token)
    expect(opened.locator(".who")).to_contain_text("door-7")


def test_axe_finds_nothing(page: Open, tmp_path: Path) -> None:
    """axe-core has no complaint about any section, light or dark."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    enrol(page("enroller"), "Axel", stranger(tmp_path))
    for role in (None, "operator", "enroller", "privacy-officer", "auditor", "administrator"):
        opened = page(role, bypass_csp=True)  # axe is put in from outside
        for link in opened.locator("nav a").all() if role else [None]:
            if link:
                link.click()
                expect(opened.locator("h1")).to_be_focused()
            for scheme, rules in (("light", {}), ("dark", {"runOnly": ["color-contrast"]})):
                opened.emulate_media(color_scheme=scheme)
                for _ in range(8):  # while the section is still being drawn
                    found = axe.run(opened, options=rules).response["violations"]
                    told = [(one["id"], one["nodes"][0]["html"]) for one in found]
                    if not told:
                        break
                    opened.wait_for_timeout(500)
                assert told == [], (role, scheme)
