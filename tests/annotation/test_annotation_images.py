"""Images in prompts and answers: what is taken, who sees it, and that nothing else is fetched."""

from __future__ import annotations

import base64
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, add_caller, pair_row, png
from sqlalchemy import event

from burnish.annotation.client import Client
from burnish.annotation.export import export
from burnish.annotation.service import accounts, images, people, projects, work
from burnish.annotation.service.database import Database
from burnish.annotation.service.rendering import markdown, plain
from burnish.annotation.service.submission import Submission
from burnish.annotation.snapshot import take_snapshot, with_key
from burnish.annotation.store import Store
from burnish.errors import UserError

JPEG = b"\xff\xd8\xff\xe0\x00\x04JF\xff\xc0\x00\x11\x08\x00\x07\x00\x09\x03" + bytes(20)
GIF = b"GIF89a" + struct.pack("<HH", 4, 5) + bytes(9)
WEBP = (
    b"RIFF\x00\x00\x00\x00WEBPVP8X"
    + bytes(8)
    + (11).to_bytes(3, "little")
    + (6).to_bytes(3, "little")
)


@pytest.mark.parametrize(
    ("content", "ending", "size"),
    [(png(), "png", (3, 2)), (JPEG, "jpg", (9, 7)), (GIF, "gif", (4, 5)), (WEBP, "webp", (12, 7))],
)
def test_an_image_is_what_its_first_bytes_say(content: bytes, ending: str, size: tuple):
    made = images.picture(content)
    assert made.name.endswith(f".{ending}")
    assert (made.width, made.height) == size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "no PNG"),
        (b"", "no PNG"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0", "no PNG"),
        (b"\xff\xd8\xff\xe0\x00\x00", "no PNG"),
        (b"\xff\xd8\xff" + b"\xff" * 50, "no PNG"),
        (png(60_000, 2), "60000 × 2 pixels"),
        (png(8_000, 8_000), "8000 × 8000 pixels"),
        (png(0, 5), "0 × 5"),
        (png() + bytes(images.MOST_BYTES), "at most 5,242,880"),
    ],
)
def test_what_is_no_image_or_too_large_is_refused(content: bytes, message: str):
    with pytest.raises(UserError, match=message):
        images.picture(content)


def _url(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def test_content_in_parts_becomes_text_that_shows_the_images(database: Database):
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": _url(png())}},
    ]
    row = {
        "id": "1", "kind": "pairwise", "messages": [{"role": "user", "content": parts}],
        "candidates": ["blue", {"text": [{"type": "image", "image": _url(png(seed=9))}]}],
    }  # fmt: skip
    bench = Bench(database, annotators=1, rows=[row], overlap=1)
    names = [one["name"] for one in images.listed(database, bench.owner, bench.project)]
    assert len(names) == 2
    entry = take_snapshot(database, "p").by_id["1"]
    assert entry.prompt.messages[0]["content"] == f"What is this?\n\n![](image:{names[0]})"
    assert entry.candidates == ("blue", f"![](image:{names[1]})")
    held = work.take(database, bench.people[0], bench.project)
    assert held is not None
    work.answer(database, bench.people[0], held.lease, Submission(strength=1))
    manifest = export(with_key(database, "p"), "paired").manifest
    assert manifest["images"] == sorted(names)
    assert any("/images/NAME" in line for line in manifest["cannot_hold"])


def test_rows_without_images_ask_the_database_for_none(database: Database):
    bench = Bench(database, annotators=0, rows=[])

    def count(rows: list[dict]) -> int:
        statements: list[str] = []

        def heard(*arguments: Any) -> None:
            statements.append(arguments[2])

        event.listen(database.engine, "before_cursor_execute", heard)
        try:
            projects.add_items(database, bench.owner, bench.project, rows)
        finally:
            event.remove(database.engine, "before_cursor_execute", heard)
        return len([one for one in statements if one.startswith("SELECT")])

    few, many = ([pair_row(start + n) for n in range(size)] for start, size in ((0, 2), (10, 40)))
    assert count(few) == count(many)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://evil.example/x.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,PHN2Zz4="}},
        {"type": "image_url", "image_url": {"url": "data:text/html;base64,PHN2Zz4="}},
        {"type": "image_url", "image_url": 5},
        {"type": "audio", "audio": "x"},
        {"type": "text", "text": 5},
    ],
)
def test_other_parts_name_row_and_field(tmp_path: Path, part: dict):
    database = Database(str(tmp_path / "a.sqlite"))
    bench = Bench(database, annotators=0, rows=[])
    row = {"id": "1", "prompt": "?", "kind": "pairwise", "candidates": ["a", {"text": [part]}]}
    with pytest.raises(UserError) as error:
        projects.add_items(database, bench.owner, bench.project, [row])
    assert (error.value.row, error.value.field) == (1, "candidates.1.text.0")
    database.close()


def test_texts_shown_as_they_are_written_have_no_long_names():
    name = images.picture(png()).name
    assert plain(f"See ![a map](image:{name}), ![](image:{name})!") == "See ▣ a map, ▣ !"
    assert plain("![a](image:x.png) ![b](https://e.org/x.png)").startswith("![a](image:x.png)")


def test_only_names_of_this_server_are_images():
    name = f"{'a' * 64}.png"
    assert markdown(f'![a "b](image:{name})') == (
        f'<p><img class="picture" data-image="{name}" alt="a &quot;b"></p>\n'
    )
    for address in (
        "https://evil.example/x.png",
        "//evil.example/x",
        "image:../x.png",
        "data:image/png;base64,AA",
    ):
        assert "<img" not in markdown(f"![x]({address})")


def test_members_see_it_and_nobody_else(tmp_path: Path, chromium: Any):
    served = Served(str(tmp_path / "a.sqlite"))
    bench = Bench(served.database, annotators=0, rows=[])
    token = accounts.create_token(served.database, account_name="olga", name="t", scopes=["manage"])
    with Client(served.url, token) as client:
        shows = client.add_image(bench.project, png(40, 30))
        row = {"prompt": f"Look: {shows}", "kind": "pairwise", "candidates": [shows, f"{shows} b"]}
        client.add_items(bench.project, [row])
        with pytest.raises(UserError, match="no PNG"):
            client.add_image(bench.project, b"no")
    name = shows[len("![](image:") : -1]
    address = f"{served.url}/images/{name}"
    bearer = {"Authorization": f"Bearer {token}"}
    answer = httpx.get(address, headers=bearer)
    assert answer.content == png(40, 30)
    assert answer.headers["content-type"] == "image/png"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(address).status_code == 303
    add_caller(served.database, "mallory")
    other = accounts.create_token(
        served.database, account_name="mallory", name="t", scopes=["label"]
    )
    assert httpx.get(address, headers={"Authorization": f"Bearer {other}"}).status_code == 404
    assert httpx.get(f"{served.url}/images/x.png", headers=bearer).status_code in (404, 422)

    secret = people.invite(served.database, bench.owner, bench.project)
    context = chromium.new_context(viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.set_default_timeout(15_000)
    try:
        page.goto(f"{served.url}/join/{secret}")
        page.get_by_label("Name").fill("Ann")
        page.get_by_label("Password").fill("correct horse battery")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog#guidelines[open]")
        page.keyboard.press("Enter")
        page.wait_for_selector("img.picture[src]", state="attached")
        for _ in range(200):
            if page.evaluate("document.querySelector('.picture').naturalWidth"):
                break
            page.wait_for_timeout(25)
        assert page.evaluate("document.querySelector('.picture').naturalWidth") == 40
        assert page.locator(f".prompt a[href$='/images/{name}'] > img").count() == 1
        for width in (390, 300):  # the narrower, the higher is the bar
            page.set_viewport_size({"width": width, "height": 844})
            page.wait_for_timeout(100)
            scale, bar = (page.locator(one).bounding_box() for one in (".scale", ".bar"))
            assert scale["y"] + scale["height"] <= bar["y"] + 1
        page.get_by_role("button", name="Mark A").click()
        page.locator(".marking .sentence > img[src]").click()
        assert page.locator(".spans q").inner_text().strip() == "▣"
        page.locator(".scale .choice").first.click()
        page.get_by_role("button", name="Submit").click()
        page.wait_for_selector("text=All done for now")
        said = Store(served.place).labelled("p")[0].answer
        texts = [shows, f"{shows} b"]
        assert [texts[s.candidate][s.start : s.end] for s in said.spans] == [shows]
    finally:
        context.close()
        served.stop()
