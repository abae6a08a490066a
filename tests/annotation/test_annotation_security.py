"""What somebody who means harm would try, over HTTP; and what the API answers to whatever is
sent."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from annotation_bench import Bench, Served, add_caller, echo, pair_row
from sqlalchemy import func, select, update

from burnish.annotation.service import accounts, people, projects
from burnish.annotation.tables import Annotation, Audit, Item, Lease, LoginSession, Project, now

PASSWORD = "correct horse battery"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(str(tmp_path / "a.sqlite"), generate=echo, hosts=("127.0.0.1",))
    yield served
    served.stop()


@pytest.fixture
def bench(served: Served) -> Bench:
    return Bench(served.database, annotators=2, overlap=2)


def _browser(served: Served, name: str) -> httpx.Client:
    """Somebody logged in, with cookie and CSRF token."""
    with served.database.write() as session:
        cookie = accounts.open_session(session, accounts.account_of(session, name), address="")
    caller = accounts.caller_of_session(served.database, cookie)
    assert caller is not None
    client = httpx.Client(base_url=served.url, cookies={"burnish_session": cookie}, timeout=30)
    client.headers["X-CSRF-Token"] = caller.csrf
    return client


def _program(served: Served, name: str, *scopes: str) -> httpx.Client:
    token = accounts.create_token(served.database, account_name=name, name="t", scopes=scopes)
    return httpx.Client(
        base_url=served.url, headers={"Authorization": f"Bearer {token}"}, timeout=30
    )


def test_headers_stand_on_every_answer(served: Served):
    for path in ("/login", "/static/task.js", "/api/v1/me", "/nowhere", "/healthz"):
        headers = httpx.get(served.url + path).headers
        policy = headers["content-security-policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"


def test_pages_have_no_inline_script_or_style(served: Served, bench: Bench):
    owner = _browser(served, "olga")
    tabs = ("", "/items", "/members", "/review", "/settings", "/export", "/label")
    for path in (
        "/login",
        "/projects",
        "/projects/new",
        "/account",
        "/api",
        *(f"/projects/1{tab}" for tab in tabs),
    ):
        page = owner.get(path, follow_redirects=True).text
        assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
        assert re.findall(r"\son\w+\s*=|\sstyle\s*=|<style|javascript:", page) == []


def test_anothers_task_by_its_lease(served: Served, bench: Bench):
    ann, ben = _browser(served, "ann0"), _browser(served, "ann1")
    task = ann.post("/api/v1/projects/1/next", json={}).json()
    for method, path, body in (
        ("POST", "answer", {"strength": 1}),
        ("PUT", "draft", {"content": {}}),
        ("POST", "chat", {"text": "x"}),
        ("POST", "choice", {"strength": 1}),
    ):
        assert (
            ben.request(method, f"/api/v1/leases/{task['lease']}/{path}", json=body).status_code
            == 404
        )
    assert ben.delete(f"/api/v1/leases/{task['lease']}").status_code == 404
    assert (
        ann.post(f"/api/v1/leases/{task['lease']}/answer", json={"strength": 1}).status_code == 200
    )


def test_an_annotator_sees_no_gold_no_model_no_position_and_no_others(served: Served):
    texts = [{"text": "x", "source": "model-one"}, {"text": "y", "source": "model-two"}]
    rows = [pair_row(f"secret-id-{n}", prompt="Say it", candidates=texts) for n in range(4)]
    rows += [
        pair_row(f"secret-id-known-{n}", prompt="Say it", candidates=texts, gold={"strength": 2})
        for n in range(2)
    ]
    bench = Bench(served.database, annotators=2, rows=rows, gold_rate=0.5)
    ann = _browser(served, "ann0")
    seen = ""
    for _ in range(6):
        response = ann.post("/api/v1/projects/1/next?html=true", json={})
        seen += response.text
        if response.status_code == 200:
            seen += ann.post(
                f"/api/v1/leases/{response.json()['lease']}/answer", json={"strength": 1}
            ).text
    with served.database.read() as session:
        assert (
            session.scalar(
                select(func.count(Item.id)).join(Annotation).where(Item.gold.is_not(None))
            )
            == 2
        )
    assert '"strength":2' in seen.replace(" ", "")  # the scale, so something came
    for secret in (
        "model-one",
        "model-two",
        "secret-id",
        "gold",
        "presented",
        "position",
        "source",
    ):
        assert secret not in seen
    for path in (
        "items",
        "members",
        "disputes",
        "progress",
        "audit",
        "webhooks",
        "stats",
        "export",
    ):
        assert ann.get(f"/api/v1/projects/{bench.project}/{path}").status_code == 403, path
    for tab in ("items", "members", "review", "settings", "export", "export/download"):
        assert ann.get(f"/projects/{bench.project}/{tab}").status_code == 403, tab
    assert (
        ann.post(f"/api/v1/projects/{bench.project}/items", json={"items": []}).status_code == 403
    )
    assert (
        ann.patch(f"/api/v1/projects/{bench.project}", json={"guidelines": "mine"}).status_code
        == 403
    )


def test_no_project_of_others_can_be_told_from_one_that_is_not(served: Served, bench: Bench):
    add_caller(served.database, "mallory")
    mallory = _browser(served, "mallory")
    for path in ("", "/items", "/members", "/disputes", "/progress", "/audit", "/export"):
        here, nowhere = (mallory.get(f"/api/v1/projects/{n}{path}") for n in (1, 999))
        assert (
            (here.status_code, here.json())
            == (nowhere.status_code, nowhere.json())
            == (404, here.json())
        )
    assert mallory.post("/api/v1/projects/1/next", json={}).status_code == 404


@pytest.mark.parametrize("token", [None, "", "wrong", "'", "é"])
def test_a_forged_request_changes_nothing(served: Served, bench: Bench, token: str | None):
    owner = _browser(served, "olga")
    del owner.headers["X-CSRF-Token"]
    headers = {} if token is None else {"X-CSRF-Token": token.encode()}
    body = {"role": "owner", "uses": 9}
    assert (
        owner.post("/api/v1/projects/1/invitations", json=body, headers=headers).status_code == 403
    )
    assert (
        owner.post("/projects/1/invite", data={"role": "owner", "csrf": token or ""}).status_code
        == 403
    )
    assert owner.post("/logout", data={"csrf": token or ""}).status_code == 403
    assert owner.get("/api/v1/me").status_code == 200


def test_another_sessions_csrf_token_does_not_do(served: Served, bench: Bench):
    owner, ann = _browser(served, "olga"), _browser(served, "ann0")
    other = {"X-CSRF-Token": ann.headers["X-CSRF-Token"]}
    assert owner.post("/api/v1/projects/1/invitations", json={}, headers=other).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_are_kept_out(served: Served, bench: Bench, headers: dict):
    owner = _browser(served, "olga")
    assert owner.post("/api/v1/projects/1/invitations", json={}, headers=headers).status_code == 403


def test_a_foreign_name_for_this_machine_is_not_answered(served: Served):
    assert httpx.get(served.url + "/login", headers={"Host": "rebound.example"}).status_code == 421
    assert (
        httpx.get(served.url + "/login", headers={"Host": f"127.0.0.1:{served.port}"}).status_code
        == 200
    )


def test_a_replayed_lease_counts_once(served: Served, bench: Bench):
    ann = _browser(served, "ann0")
    lease = ann.post("/api/v1/projects/1/next", json={}).json()["lease"]
    statuses, barrier = [], threading.Barrier(8)

    def send(strength: int) -> None:
        barrier.wait()
        statuses.append(
            ann.post(f"/api/v1/leases/{lease}/answer", json={"strength": strength}).status_code
        )

    threads = [threading.Thread(target=send, args=(1 if n % 2 else 2,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 4 + [409] * 4
    with served.database.read() as session:
        assert session.scalar(select(func.count(Annotation.id))) == 1
    assert ann.put(f"/api/v1/leases/{lease}/draft", json={"content": {}}).status_code == 409


def test_a_lease_that_has_run_out_is_refused_once_somebody_else_has_answered(served: Served):
    bench = Bench(served.database, annotators=2, rows=[pair_row(1)], overlap=1)
    ann, ben = _browser(served, "ann0"), _browser(served, "ann1")
    lease = ann.post(f"/api/v1/projects/{bench.project}/next", json={}).json()["lease"]
    with served.database.write() as session:
        session.execute(update(Lease).values(expires_at=now()))
    taken = ben.post(f"/api/v1/projects/{bench.project}/next", json={})
    assert taken.status_code == 200
    assert (
        ben.post(f"/api/v1/leases/{taken.json()['lease']}/answer", json={"strength": 1}).status_code
        == 200
    )
    assert ann.post(f"/api/v1/leases/{lease}/answer", json={"strength": 1}).status_code == 409


def test_login_makes_a_new_session_whatever_came_along(served: Served):
    accounts.create_user(served.database, "olga", PASSWORD)
    fixed = "attackers-own-session-value-attackers-own-session"
    client = httpx.Client(base_url=served.url, cookies={"burnish_session": fixed})
    form = re.findall(r'name="csrf" value="([^"]+)"', client.get("/login").text)[0]
    response = client.post("/login", data={"name": "olga", "password": PASSWORD, "csrf": form})
    assert response.status_code == 303
    cookie = response.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=lax" in cookie.lower()
    given = re.findall("burnish_session=([^;]+)", cookie)[0]
    assert given != fixed
    assert accounts.caller_of_session(served.database, fixed) is None
    assert accounts.caller_of_session(served.database, given) is not None
    with served.database.read() as session:
        assert given not in session.scalars(select(LoginSession.id)).all(), (
            "only its hash is stored"
        )


def test_a_login_form_from_elsewhere_is_refused(served: Served):
    accounts.create_user(served.database, "olga", PASSWORD)
    for csrf, cookies in (("", {}), ("x", {}), ("x", {"burnish_form": "y"})):
        client = httpx.Client(base_url=served.url, cookies=cookies)
        assert (
            client.post(
                "/login", data={"name": "olga", "password": PASSWORD, "csrf": csrf}
            ).status_code
            == 403
        )


def test_logging_out_ends_the_session_on_the_server(served: Served, bench: Bench):
    owner = _browser(served, "olga")
    assert owner.post("/logout", data={"csrf": owner.headers["X-CSRF-Token"]}).status_code == 303
    assert httpx.get(served.url + "/api/v1/me", cookies=dict(owner.cookies)).status_code == 401


def test_guessing_is_stopped_and_does_not_shut_the_owner_out(served: Served):
    accounts.create_user(served.database, "olga", PASSWORD)
    client = httpx.Client(base_url=served.url)
    form = re.findall(r'name="csrf" value="([^"]+)"', client.get("/login").text)[0]
    answers = [
        client.post(
            "/login", data={"name": "OLGA", "password": f"guess {n}", "csrf": form}
        ).status_code
        for n in range(10)
    ]
    assert answers == [403] * 8 + [429] * 2
    right = client.post("/login", data={"name": "olga", "password": PASSWORD, "csrf": form})
    assert right.status_code == 429
    assert int(right.headers["retry-after"]) > 0
    assert accounts.log_in(served.database, "olga", PASSWORD, address="another address")
    with served.database.read() as session:
        assert (
            session.scalar(select(func.count(Audit.id)).where(Audit.action == "login failed")) == 8
        )


def test_unknown_names_look_like_wrong_passwords(served: Served):
    accounts.create_user(served.database, "olga", PASSWORD)
    client = httpx.Client(base_url=served.url)
    form = re.findall(r'name="csrf" value="([^"]+)"', client.get("/login").text)[0]
    pages = [
        client.post(
            "/login", data={"name": name, "password": "guess 1234567", "csrf": form}
        ).text.replace(name, "")
        for name in ("olga", "nobody")
    ]
    assert pages[0] == pages[1]


def test_a_new_password_logs_other_browsers_out(served: Served):
    accounts.create_user(served.database, "olga", PASSWORD)
    old = _browser(served, "olga")
    accounts.set_password(served.database, "olga", "another good password")
    assert old.get("/api/v1/me").status_code == 401
    accounts.set_active(served.database, "olga", active=False)
    with pytest.raises(accounts.ForbiddenError):
        accounts.log_in(served.database, "olga", "another good password", address="")


def test_passwords_are_argon2_hashes(served: Served):
    accounts.create_user(served.database, "olga", PASSWORD)
    with served.database.read() as session:
        assert accounts.account_of(session, "olga").password.startswith("$argon2id$")


def test_a_token_opens_its_scopes_only(served: Served, bench: Bench):
    reader = _program(served, "olga", "read")
    assert reader.get("/api/v1/projects/1").status_code == 200
    for method, path, body in (
        ("POST", "/api/v1/projects/1/next", {}),
        ("POST", "/api/v1/projects/1/items", {"items": []}),
        ("GET", "/api/v1/projects/1/export", None),
        ("GET", "/api/v1/projects/1/audit", None),
        ("POST", "/api/v1/tokens", {"name": "more", "scopes": ["manage"]}),
    ):
        assert reader.request(method, path, json=body).status_code == 403, path
    manager = _program(served, "olga", "manage")
    assert (
        manager.post("/api/v1/tokens", json={"name": "more", "scopes": ["export"]}).status_code
        == 422
    )
    labeller = _program(served, "ann0", "label")
    assert labeller.post("/api/v1/projects/1/next", json={}).status_code == 200
    caller = accounts.caller_of_session(
        served.database, dict(_browser(served, "ann0").cookies)["burnish_session"]
    )
    assert caller is not None
    accounts.revoke_token(
        served.database, caller, accounts.tokens(served.database, caller)[0]["id"]
    )
    assert labeller.post("/api/v1/projects/1/next", json={}).status_code == 401


INJECTIONS = [
    "' OR '1'='1",
    "'; DROP TABLE annotations; --",
    '" OR ""="',
    "1) UNION SELECT password FROM accounts --",
    "\\'; SELECT 1",
    "%' OR '%'='",
    "Robert'); DELETE FROM items;--",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_sql_in_any_field_is_text(served: Served, bench: Bench, text: str):
    owner, ann = _browser(served, "olga"), _browser(served, "ann0")
    form = re.findall(r'name="csrf" value="([^"]+)"', httpx.get(served.url + "/login").text)[0]
    cookies = {"burnish_form": form}
    assert (
        httpx.post(
            served.url + "/login",
            data={"name": text, "password": text, "csrf": form},
            cookies=cookies,
        ).status_code
        == 403
    )
    assert (
        httpx.get(
            served.url + "/api/v1/me",
            cookies={"burnish_session": text.replace('"', "").replace(";", "").replace("\\", "")},
        ).status_code
        == 401
    )
    assert (
        httpx.get(
            served.url + "/api/v1/me", headers={"Authorization": f"Bearer {text}"}
        ).status_code
        == 401
    )
    assert httpx.get(f"{served.url}/join/{text.replace('%', '%25')}").status_code == 404
    assert owner.post("/api/v1/projects", json={"name": text[:60]}).status_code == 201
    assert owner.post("/api/v1/projects/1/items", json={"items": [pair_row(text)]}).json() == {
        "added": 1,
        "there_already": 0,
    }
    lease = ann.post("/api/v1/projects/1/next", json={}).json()["lease"]
    assert (
        ann.post(
            f"/api/v1/leases/{lease}/answer", json={"strength": 1, "critique": text}
        ).status_code
        == 200
    )
    with served.database.read() as session:
        assert session.scalar(select(Annotation.payload))["critique"] == text
        assert session.scalar(select(func.count(Item.id))) == 5
        assert text[:60] in session.scalars(select(Project.name)).all()


def test_oversized_bodies_are_cut_off(served: Served, bench: Bench):
    ann = _browser(served, "ann0")
    lease = ann.post("/api/v1/projects/1/next", json={}).json()["lease"]
    path = f"/api/v1/leases/{lease}/answer"
    assert ann.post(path, content=b"x" * (3 << 20)).status_code == 413
    assert (
        ann.post(
            path,
            content=(b"x" * (1 << 16) for _ in range(64)),
            headers={"Content-Type": "application/json"},
        ).status_code
        == 413
    )
    assert ann.post(path, json={"strength": 1, "critique": "x" * 100_001}).status_code == 422
    assert (
        ann.put(f"/api/v1/leases/{lease}/draft", json={"content": {"a": "x" * 500_000}}).status_code
        == 422
    )
    assert ann.post(
        path, content=b"[" * 200_000, headers={"Content-Type": "application/json"}
    ).status_code in (
        400,
        422,
    )
    assert ann.post(path, json={"strength": 1}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "../../../../etc/passwd.jsonl",
        "..\\..\\x.jsonl",
        "/etc/passwd",
        "a/../../b.parquet",
        "\x00.jsonl",
        ".",
    ],
)
@pytest.mark.parametrize("layout", ["", "paired"])
def test_an_uploads_name_leads_nowhere(tmp_path: Path, name: str, layout: str):
    seen: list[Path] = []

    def take(path: Path, wanted: str, project: str) -> dict[str, int]:
        seen.append(path)
        return {"items": 0}

    served = Served(str(tmp_path / "data" / "a.sqlite"), import_file=take, layouts=("paired",))
    try:
        Bench(served.database)
        owner = _browser(served, "olga")
        before = {p for p in tmp_path.rglob("*") if "a.sqlite" not in p.name}
        data = {"csrf": owner.headers["X-CSRF-Token"], "layout": layout}
        response = owner.post(
            "/projects/1/upload", data=data, files={"file": (name, b'{"id": "u"}\n')}
        )
        assert response.status_code in (200, 422)
        assert {p for p in tmp_path.rglob("*") if "a.sqlite" not in p.name} == before
        assert all(
            re.fullmatch(r"upload\.(jsonl|json|parquet)", path.name) and not path.exists()
            for path in seen
        )
    finally:
        served.stop()


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app/main.py",
        "/static/..%2f..%2fdb.py",
        "/static/%2e%2e/db.py",
        "/static//etc/passwd",
        "/static/....//db.py",
    ],
)
def test_static_files_lead_nowhere_else(served: Served, path: str):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status == 404
    assert b"import" not in response.read()


def test_what_databases_cannot_hold_is_refused(served: Served, bench: Bench):
    ann, owner = _browser(served, "ann0"), _browser(served, "olga")
    lease = ann.post("/api/v1/projects/1/next", json={}).json()["lease"]
    for text in (r"a\u0000b", r"a\ud800b"):
        body = f'{{"strength": 1, "critique": "{text}"}}'.encode()
        headers = {"Content-Type": "application/json"}
        assert (
            ann.post(f"/api/v1/leases/{lease}/answer", content=body, headers=headers).status_code
            == 422
        )
        draft = f'{{"content": {{"a": "{text}"}}}}'.encode()
        assert (
            ann.put(f"/api/v1/leases/{lease}/draft", content=draft, headers=headers).status_code
            == 422
        )
        rows = (
            f'{{"items": [{{"id": "{text}", "prompt": "x", "candidates": ["a", "b"], "columns":'
            f' {{"k": "{text}"}}}}]}}'.encode()
        )
        assert (
            owner.post("/api/v1/projects/1/items", content=rows, headers=headers).status_code == 422
        )
        settings = f'{{"settings": {{"flags": ["{text}"]}}}}'.encode()
        assert (
            owner.patch("/api/v1/projects/1", content=settings, headers=headers).status_code == 422
        )
    for number in ("99999999999999999999", "-1", "0", "x"):
        assert owner.get(f"/api/v1/projects/{number}").status_code == 422


def test_a_project_keeps_an_owner(served: Served, bench: Bench):
    owner = _browser(served, "olga")
    found = {m["name"]: m["id"] for m in owner.get("/api/v1/projects/1/members").json()}
    assert (
        owner.patch(
            f"/api/v1/projects/1/members/{found['olga']}", json={"role": "annotator"}
        ).status_code
        == 409
    )
    assert (
        owner.patch(
            f"/api/v1/projects/1/members/{found['ann0']}", json={"role": "owner"}
        ).status_code
        == 204
    )
    assert (
        owner.patch(
            f"/api/v1/projects/1/members/{found['olga']}", json={"role": "annotator"}
        ).status_code
        == 204
    )


def test_an_invitation_is_used_up(served: Served, bench: Bench):
    secret = people.invite(served.database, bench.owner, bench.project, uses=1)
    assert people.sign_up(served.database, secret, "new", PASSWORD, address="")
    with pytest.raises(projects.NotFoundError):
        people.sign_up(served.database, secret, "newer", PASSWORD, address="")
    assert httpx.get(f"{served.url}/join/{secret}").status_code == 404
