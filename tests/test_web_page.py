"""The dashboard in a real browser."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from web_serving import problem_rows, served

from langgraph_session_store import Column, SessionRecord
from langgraph_session_store.store import SessionStore
from langgraph_session_store.web.page import markup, routes
from langgraph_session_store.web.page.listing import searched
from langgraph_session_store.web.reads import ReadStore

playwright = pytest.importorskip("playwright.sync_api")
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.requires("chromium")
ARTEFACTS = Path(os.environ.get("LGSS_ARTEFACTS", Path(__file__).parent.parent / ".artefacts"))
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright.expect.set_options(timeout=60_000)  # the numbers are kept the longer the slower the machine is
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab that fails the test on any error, and on any request that leaves the server."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(60_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security" in message.text else None)
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    page.on(
        "request",
        lambda request: (
            wrong.append(request.url) if not request.url.startswith(("http://127.0.0.1", "data:", "blob:")) else None
        ),
    )
    yield page
    context.close()
    assert wrong == []


@pytest.fixture
def url(store: SessionStore) -> Iterator[str]:
    store.save_many(problem_rows(120))
    with served(store, mlflow_uri="http://mlflow.example") as client:
        yield str(client.base_url).rstrip("/")


def settle(page: Page) -> None:
    """Wait until everything that was asked for is there."""
    page.wait_for_selector(".wait, [aria-busy]", state="detached")


def count(page: Page, number: int) -> None:
    """Wait until the table has so many rows."""
    playwright.expect(page.locator("tbody tr[data-id]")).to_have_count(number)


def opened(page: Page, address: str) -> Page:
    page.goto(address)
    settle(page)
    return page


def picture(page: Page, name: str) -> None:
    ARTEFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png")


def rows(page: Page) -> int:
    return page.locator("tbody tr[data-id]").count()


def test_the_first_screen(page: Page, url: str) -> None:
    opened(page, url)
    assert page.locator(".k-completed b").inner_text() == "90"
    assert page.locator(".k-failed b").first.inner_text() == "30"
    assert page.locator(".card").count() == 5
    assert rows(page) == 50
    page.wait_for_selector("#live[data-state=on]")
    for name in ("User prompt", "Topic", "Difficulty", "Tests passed", "Code attempts"):
        assert page.locator("thead").get_by_text(name).count() == 1
    picture(page, "first-light")
    page.keyboard.press("t")
    picture(page, "first-dark")


def test_filter_sort_and_page_are_the_address(page: Page, url: str) -> None:
    opened(page, url)
    page.keyboard.press("f")
    page.select_option("#filter-field", "topic")
    page.select_option("#filter-op", "eq")
    page.fill("#filter-value input", "graphs")
    page.click("#filter-form .main")
    count(page, 40)
    assert page.url.endswith("?topic=graphs")
    page.click("thead >> text=Code attempts")
    page.wait_for_url("**order_by=-code_attempts*")
    page.wait_for_selector("th[aria-sort=descending] >> text=Code attempts")
    again = opened(page, page.url)  # who is sent the address sees the same
    assert rows(again) == 40
    assert again.locator(".chip").inner_text().startswith("Topic is graphs")
    page.click(".chip >> text=×")  # noqa: RUF001
    count(page, 50)
    page.keyboard.press("n")
    page.wait_for_url("**cursor=*")
    page.wait_for_selector("#first")
    page.go_back()
    page.wait_for_selector("#first", state="detached")


def test_counters_charts_and_search_lead_somewhere(page: Page, url: str) -> None:
    opened(page, url)
    page.click("a.k-failed")
    count(page, 30)
    assert page.locator(".k-completed b").inner_text() == "90"  # the others can still be chosen
    page.click("a.counter.k-all")
    page.click(".heat tbody tr:first-child td a:not([href*=workflow_status]) >> nth=0")  # not of the chart before
    count(page, 20)
    opened(page, url)
    page.keyboard.press("/")
    page.keyboard.type("function 117")
    page.keyboard.press("Enter")
    count(page, 1)
    page.keyboard.press("Escape")
    page.keyboard.press("c")
    count(page, 50)


def test_a_session_by_keyboard(page: Page, url: str, store: SessionStore) -> None:
    store.save(
        "t-0119", {"code": "def f(x):\n    return x + 2\n", "tests_passed": True}, run_id="abc", error="ValueError: no"
    )
    opened(page, f"{url}/?thread_id=t-0119")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/session?thread_id=t-0119")
    page.wait_for_selector("h1 >> text=t-0119")
    body = page.locator("#session")
    for text in ("User prompt", "Problem description", "Problem tests", "ValueError: no", "Versions"):
        assert body.get_by_text(text).first.is_visible()
    assert page.locator(".t-k >> text=def").first.is_visible()
    assert page.locator(".diff mark").first.is_visible()
    assert page.locator("a >> text=MLflow run").get_attribute("href") == "http://mlflow.example/#/runs/abc"
    picture(page, "session")
    page.keyboard.press("u")
    count(page, 50)


def test_a_run_is_seen_while_it_happens(page: Page, url: str, store: SessionStore) -> None:
    opened(page, url)
    page.wait_for_selector("#live[data-state=on]")
    store.save("just-now", {"user_prompt": "Fresh", "topic": "arrays"})
    page.wait_for_selector("tr.new >> text=just-now")
    playwright.expect(page.locator("a.k-running b")).to_have_text("1")
    store.save("just-now", {"tests_passed": True}, workflow_status="completed")
    page.wait_for_selector("tr.k-completed >> text=just-now")


def test_no_rows_say_what_to_do_first(page: Page, store: SessionStore) -> None:
    with served(store) as client:
        opened(page, str(client.base_url))
        assert "SessionRecorder(store).attach(graph)" in page.locator(".empty").inner_text()
        store.save("first", {"user_prompt": "Hello"})
        page.wait_for_selector("tbody tr[data-id]")
        opened(page, f"{client.base_url}?topic=none")
        assert "No session matches" in page.locator(".empty").inner_text()
        opened(page, f"{client.base_url}?nope=1")
        assert "unknown field" in page.locator("#table").inner_text()


def test_the_token_is_asked_for_and_kept_for_the_tab(page: Page, store: SessionStore) -> None:
    store.save("t", {"user_prompt": "Hello"})
    with served(store, token="right" * 8) as client:
        page.goto(str(client.base_url))
        page.fill("#ask-token", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#ask-wrong:visible")
        picture(page, "token")
        page.fill("#ask-token", "right" * 8)
        page.keyboard.press("Enter")
        page.wait_for_selector("tbody tr[data-id]")
        page.wait_for_selector("#live[data-state=on]")
        page.reload()
        page.wait_for_selector("tbody tr[data-id]")
        with page.expect_download() as download:
            page.click("summary >> text=Export")
            page.click("text=CSV")
        assert "Hello" in Path(download.value.path()).read_text()
        page.click("#forget")
        page.wait_for_selector("#ask-token:visible")


def test_an_outage_is_said_and_passes(page: Page, server: Any) -> None:
    with SessionStore(server.dsn) as store, served(store) as client:
        store.save("t", {"user_prompt": "Hello"})
        opened(page, str(client.base_url))
        page.wait_for_selector("#live[data-state=on]")
        server.stop()
        page.wait_for_selector("#banner:visible")
        assert rows(page) == 1  # what was there stays
        picture(page, "away")
        server.start()
        page.wait_for_selector("#banner", state="hidden")
        store.save("after", {"user_prompt": "Again"})
        page.wait_for_selector("tbody >> text=after")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_axe_finds_nothing_serious(browser: Browser, store: SessionStore, url: str, scheme: Any, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    store.save("t-0119", {"code": "def f(x):\n    return x + 2\n"}, error="ValueError: no")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
    )
    context.set_default_timeout(60_000)
    page = context.new_page()
    for address in (url, f"{url}/?topic=graphs&workflow_status=failed", f"{url}/session?thread_id=t-0119"):
        opened(page, address)
        found = axe.run(page).response["violations"]
        serious = [
            (item["id"], [node["html"] for node in item["nodes"]][:3])
            for item in found
            if item["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (
            "the page is wider than the screen"
        )
    picture(page, f"session-{scheme}-{width}")
    context.close()


PAYLOADS = (
    "<script>window.hit=1</script>", "<img src=x onerror=window.hit=1>", "<svg/onload=window.hit=1>", "javascript:window.hit=1",
    "'\"><script>window.hit=1</script>", "</textarea><script>window.hit=1</script>", "{{7*7}}{{config}}", "{% raw %}${window.hit=1}",
    "__proto__", "constructor", "=cmd|'/C calc'!A0", "<a href='javascript:window.hit=1'>x</a>", "<iframe srcdoc='<script>parent.hit=1</script>'>",
    "</script><script>window.hit=1</script>", "<style>*{display:none}</style>", "<base href=//evil.example>", "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "\u2028window.hit=1", "\u202eevil", "<template><script>window.hit=1</script></template>", "<form action=//evil.example><input autofocus onfocus=window.hit=1>",
    "' onmouseover='window.hit=1", '" autofocus onfocus="window.hit=1', "<math><mtext><img src=x onerror=window.hit=1>", "&lt;script&gt;window.hit=1",
)  # fmt: skip


def test_5000_hostile_strings_do_nothing(page: Page, store: SessionStore) -> None:
    dice = random.Random(5)

    def hostile() -> str:
        return "".join(dice.choice(PAYLOADS) for _ in range(dice.randint(1, 3)))

    for number in range(25):
        evil = {name: hostile() for name in ("user_prompt", "problem_description", "code")}
        text = hostile()[:20]
        first = {
            **evil,
            "topic": text,
            "difficulty": hostile()[:20],
            "problem_tests": [hostile() for _ in range(100)],
            "code": hostile(),
        }
        second = {**first, "problem_tests": [hostile() for _ in range(100)], "code": hostile()}
        thread = f"{number}{hostile()}"
        own: dict[str, Any] = {
            "user_id": hostile(),
            "error": hostile(),
            "metadata": {hostile(): hostile()},
            "graph_name": hostile(),
            "run_id": hostile(),
        }
        store.save(thread, first)
        store.save(thread, second, workflow_status=hostile()[:20], **own)
    with served(store, mlflow_uri="http://mlflow.example") as client:
        url = f"{str(client.base_url).rstrip('/')}/"
        opened(page, f"{url}?fields=thread_id,user_prompt,topic,problem_tests,error,metadata,user_id,workflow_status")
        assert rows(page) == 25
        addresses = [link.get_attribute("href") for link in page.locator("a.open").all()]
        opened(page, url)
        for address in addresses:
            opened(page, f"{url}{address}")
            assert page.locator(".versions").count() == 1
            assert page.evaluate("window.hit") is None
            assert page.locator("#session script, #session iframe, #session img, #session [onerror]").count() == 0
        for evil in PAYLOADS:
            page.goto(
                f"{url}?{'&'.join(('_q=' + _quoted(evil), 'topic=' + _quoted(evil), 'user_id__contains=' + _quoted(evil)))}"
            )
            settle(page)
            assert page.evaluate("window.hit") is None
        assert page.evaluate("({}).polluted") is None


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")


class Indexed(SessionRecord):
    """A record whose questions are searched."""

    question: Annotated[str | None, Column(index="trigram")] = None
    answer: str | None = None


def test_a_search_uses_the_index_that_there_is() -> None:
    assert searched(ReadStore(SessionStore("dbname=none", record=Indexed), 5)) == (["question"], True)
    plain = ["thread_id", "error", "user_prompt", "problem_description"]
    assert searched(ReadStore(SessionStore("dbname=none"), 5)) == (plain, False)


def test_a_slow_search_says_how_to_make_it_quick(store: SessionStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.save("t", {"user_prompt": "Hello"})
    monkeypatch.setattr(routes, "_SLOW", 0)
    with served(store) as client:
        for text in ("hello", "nothing"):
            assert "trigram" in client.get("/fragments/table", params={"_q": text}).text
        assert "trigram" not in client.get("/fragments/table").text


def test_the_assets_are_small(url: str) -> None:
    folder = Path(markup.__file__).parent / "static"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 300_000


@pytest.mark.parametrize(
    "text", ["def f(:\n  '''unclosed", '"' * 1000, "\\" * 1000, "/*" * 500, "'''" * 333, "#\n" * 99, "\r\n\r", ""]
)
def test_colours_change_no_character(text: str) -> None:
    lines = markup.lines_of(text)
    plain = "\n".join(_unmarked(str(line)) for line in lines)
    assert plain == text.replace("\r\n", "\n").replace("\r", "\n")


def _unmarked(line: str) -> str:
    import html
    import re

    return html.unescape(re.sub(r"</?span[^>]*>", "", line))


@pytest.mark.parametrize(
    "make", [lambda n: '"' + "\\" * n, lambda n: "'" * n, lambda n: "/*" + "*" * n, lambda n: '"""' + '""\\' * n]
)
def test_colours_take_time_in_proportion(make: Callable[[int], str]) -> None:
    markup.lines_of(make(50_000))  # would not end if a pattern went back and forth


def test_two_versions_side_by_side() -> None:
    lines = markup.diff("a\nb\nc\n", "a\nB b\nc\nd\n")
    kinds = [(line.kind, line.old_number, line.new_number) for line in lines]
    assert ("replace", 2, 2) in kinds
    assert ("insert", None, 4) in kinds
    assert "<mark>" in str(next(line.new for line in lines if line.kind == "replace"))
    assert markup.diff(None, "<b>")[0].new == "&lt;b&gt;"
