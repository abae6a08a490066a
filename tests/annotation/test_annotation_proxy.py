"""Under a prefix and behind a proxy: who is believed, where links lead, and a day through a real
nginx."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, free_port, pair_row

from burnish.annotation.app.proxies import Behind, read_prefix
from burnish.annotation.client import Client
from burnish.annotation.service import accounts, people
from burnish.errors import UserError

PASSWORD = "correct horse battery"


async def _seen(scope: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What an application behind the proxy sees of a request."""
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)

    await Behind(app, **options)(scope, None, None)  # type: ignore[arg-type]
    return seen


def _scope(path: str = "/login", client: str = "10.0.0.5", **headers: str) -> dict[str, Any]:
    told = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "path": path, "raw_path": path.encode(), "client": (client, 1),
        "scheme": "http",
            "headers": [(b"host", b"inside:8321"), *told]}  # fmt: skip


def _run(scope: dict[str, Any], **options: Any) -> dict[str, Any]:
    import asyncio

    return asyncio.run(_seen(scope, **options))


@pytest.mark.parametrize("path", ["/login", "/labels/login"])
def test_a_prefix_is_there_once_whether_the_proxy_takes_it_off_or_not(path: str):
    seen = _run(_scope(path), root_path="labels/")
    assert (seen["root_path"], seen["path"]) == ("/labels", "/labels/login")


def test_what_a_trusted_proxy_says_is_believed():
    told = {"x_forwarded_for": "6.6.6.6, 203.0.113.9, 10.0.0.7", "x_forwarded_proto": "https",
            "x_forwarded_host": "labels.example.com", "x_forwarded_prefix": "/team"}  # fmt: skip
    seen = _run(_scope(**told), trusted=["10.0.0.0/24"])
    # The client wrote 6.6.6.6 itself; 10.0.0.7 is a proxy of ours before the last one.
    assert seen["client"][0] == "203.0.113.9"
    assert seen["scheme"] == "https"
    assert dict(seen["headers"])[b"host"] == b"labels.example.com"
    assert seen["root_path"] == "/team"


def test_what_anybody_else_says_is_not():
    told = {
        "x_forwarded_for": "203.0.113.9",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "evil",
        "x_forwarded_prefix": "/e",
    }
    seen = _run(_scope(client="192.0.2.1", **told), trusted=["10.0.0.0/24"])
    assert (seen["client"][0], seen["scheme"], seen["root_path"]) == ("192.0.2.1", "http", "")
    assert dict(seen["headers"])[b"host"] == b"inside:8321"


@pytest.mark.parametrize("prefix", ["/a b", "/<script>", "/a/../..%2f", "//evil/x y"])
def test_a_prefix_that_is_none_is_refused_and_in_a_header_unheard(prefix: str):
    with pytest.raises(UserError, match="no prefix"):
        read_prefix(prefix)
    assert _run(_scope(x_forwarded_prefix=prefix), trusted=["10.0.0.5"])["root_path"] == ""


def test_an_address_of_a_proxy_that_is_none_is_refused():
    with pytest.raises(UserError, match=r'"10\.0\.0\.x" is no address'):
        Behind(None, trusted=["10.0.0.x"])  # type: ignore[arg-type]


def test_a_proxy_that_does_not_pass_the_name_is_explained(tmp_path: Path):
    served = Served(str(tmp_path / "a.sqlite"))
    try:
        answer = httpx.post(
            f"{served.url}/login", data={}, headers={"Origin": "https://labels.example.com"}
        )
        assert answer.status_code == 403
        assert "proxy_set_header Host" in answer.json()["detail"]
        assert '"https://labels.example.com"' in answer.json()["detail"]
    finally:
        served.stop()


NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error warn;
events {{ worker_connections 64; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; client_max_body_size 128m;
  server {{
    listen 127.0.0.1:{port};
    location /labels/ {{
      proxy_pass http://127.0.0.1:{inside}{rest};
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      {host}
    }}
  }}
}}
"""  # noqa: E501


@pytest.fixture(params=["prefix taken off, Host passed", "whole path, X-Forwarded-Host"])
def behind_nginx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, str]]:
    program = shutil.which("nginx") or shutil.which("/usr/sbin/nginx")
    if program is None:
        pytest.skip("nginx is not installed")
    off = request.param.startswith("prefix")
    header = "Host $http_host" if off else "X-Forwarded-Host $http_host"
    served = Served(str(tmp_path / "a.sqlite"), root_path="/labels", trusted=["127.0.0.1"])
    port = free_port()
    text = NGINX.format(
        folder=tmp_path,
        port=port,
        inside=served.port,
        rest="/" if off else "",
        host=f"proxy_set_header {header};",
    )
    (tmp_path / "nginx.conf").write_text(text)
    command = [
        program,
        "-c",
        str(tmp_path / "nginx.conf"),
        "-p",
        str(tmp_path),
        "-e",
        str(tmp_path / "error"),
    ]
    proxy = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/labels"
    try:
        for _ in range(200):
            try:
                httpx.get(f"{url}/healthz").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.05)
        yield served, url
    finally:
        proxy.terminate()
        proxy.wait(10)
        served.stop()


def test_pages_forms_files_and_the_client_work_under_a_prefix(behind_nginx: tuple[Served, str]):
    served, url = behind_nginx
    bench = Bench(served.database, annotators=0, rows=[pair_row(n) for n in range(2)], overlap=1)
    accounts.set_password(served.database, "olga", PASSWORD)
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(f"{url}/")
        assert str(page.url) == f"{url}/login"
        form = {
            "name": "olga",
            "password": PASSWORD,
            "csrf": re.findall(r'name="csrf" value="([^"]+)"', page.text)[0],
        }
        home = browser.post(
            re.findall(r'action="([^"]+)"', page.text)[0].replace("/labels", url, 1), data=form
        )
        assert str(home.url) == f"{url}/projects"
        assert {cookie.path for cookie in browser.cookies.jar} == {"/labels"}
        seen, waiting = set[str](), [f"{url}/projects"]
        while waiting:  # every link and file that a page leads to is under the prefix, and there
            address = waiting.pop()
            found = browser.get(address)
            assert found.status_code == 200, address
            seen.add(address)
            if "text/html" not in found.headers["content-type"]:
                continue
            for target in re.findall(r'(?:href|src|action)="(/[^"#?]*)', found.text):
                assert target.startswith("/labels/"), (address, target)
            for target in re.findall(r'(?:href|src)="(/[^"#?]*)', found.text):
                absolute = url + target.removeprefix("/labels")
                waiting += [absolute] if absolute not in seen and absolute not in waiting else []
        assert any(address.endswith("task.js") for address in seen)
        assert any(address.endswith("openapi.json") for address in seen)
        csrf = re.findall(r'name="csrf" content="([^"]+)"', home.text)[0]
        made = browser.post(f"{url}/projects/{bench.project}/invite", data={"csrf": csrf})
        link = re.findall(r'class="secret">([^<]+)<', made.text)[0]
        assert link.startswith(f"{url}/join/")
        assert browser.get(link).status_code == 200
    token = accounts.create_token(
        served.database, account_name="olga", name="t", scopes=["label", "manage"]
    )
    with Client(url, token) as client:
        task = client.next(bench.project)
        assert task is not None
        assert client.answer(task, strength=1)["recorded"]
    with served.database.read() as session:
        from burnish.annotation.tables import Audit

        assert {
            a.address
            for a in session.query(Audit).filter(Audit.action == "login", Audit.address != "test")
        } == {"127.0.0.1"}
    assert people.invitations(served.database, bench.owner, bench.project)[0]["uses"] == 1


def test_an_annotator_labels_under_a_prefix(behind_nginx: tuple[Served, str], chromium: Any):
    served, url = behind_nginx
    bench = Bench(served.database, annotators=0, rows=[pair_row(1)], overlap=1)
    secret = people.invite(served.database, bench.owner, bench.project)
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(f"{url}/join/{secret}")
    page.get_by_label("Name").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog#guidelines[open]")
    page.keyboard.press("Enter")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=All done for now")
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{url}/login?out=1")
    context.close()
