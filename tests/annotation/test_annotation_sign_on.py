"""Single sign-on: against a real provider on this machine, and against one that lies."""

from __future__ import annotations

import hmac
import json
import os
import re
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml
from annotation_bench import Bench, Served, add_caller, free_port
from sqlalchemy import select

from burnish.annotation.service import accounts, erasure, identities, people, projects
from burnish.annotation.service.database import Database
from burnish.annotation.service.refusals import ConflictError, ForbiddenError
from burnish.annotation.sign_on.provider import Begun, Provider
from burnish.annotation.sign_on.rules import (
    Identity,
    SignOn,
    client_secret,
    is_safe_address,
    read_sign_on,
)
from burnish.annotation.tables import Account, Annotator, Member, SignOnIdentity
from burnish.cli.main import main
from burnish.errors import UserError

pytest.importorskip("authlib")

from joserfc import jwt
from joserfc.jwk import RSAKey

ISSUER = "https://login.example.com"
CLIENT = "labels"


def _settings(issuer: str = ISSUER, **more: Any) -> SignOn:
    given = {"issuer": issuer, "client_id": CLIENT, "allow": {"anybody": True}, **more}
    return read_sign_on(given)


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BURNISH_OIDC_SECRET", "shh")


# --- a provider that others wrote


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    mock = pytest.importorskip("oidc_provider_mock")
    with mock.run_server_in_thread(require_nonce=True) as server:
        yield f"http://localhost:{server.server_port}"


def _person(provider: str, sub: str, **claims: Any) -> None:
    httpx.put(f"{provider}/users/{sub}", json={"email_verified": True, **claims}).raise_for_status()


def _at_provider(address: str, sub: str) -> str:
    """What somebody does there: they say who they are. Returns where they are sent back to."""
    answer = httpx.post(address, data={"sub": sub})
    assert answer.status_code == 302, answer.text
    return answer.headers["location"]


def _log_in(client: httpx.Client, sub: str, start: str = "/login/oidc") -> httpx.Response:
    begun = client.get(start)
    assert begun.status_code == 303, begun.text
    return client.get(_at_provider(begun.headers["location"], sub))


def _served(tmp_path: Path, settings: SignOn, **more: Any) -> tuple[Served, list[str]]:
    said: list[str] = []
    sign_on = Provider(settings, say=said.append)
    return Served(str(tmp_path / "a.sqlite"), sign_on=sign_on, **more), said


def test_people_come_in_get_their_roles_and_go(provider: str, tmp_path: Path):
    settings = _settings(
        provider, name="Example's login",
        allow={"domains": ["Example.com"], "groups": ["labellers"]},
        owners={"groups": ["leads"]},
        projects=[{"project": "p", "groups": ["labellers"]}, {"project": "not yet",
            "groups": ["labellers"], "role": "owner"}],
    )  # fmt: skip
    served, said = _served(tmp_path, settings)
    try:
        bench = Bench(served.database, annotators=0, rows=[])
        _person(provider, "ann", name="Ann", email="ann@example.com", groups=["labellers"])
        _person(provider, "ben", name="Ben", email="ben@example.com", groups=["leads"])
        _person(provider, "eve", name="Eve", email="eve@example.com", email_verified=False)
        _person(provider, "sub", name="Sub", email="sub@not.example.com")
        client = httpx.Client(base_url=served.url, timeout=60)
        assert "Log in with Example&#39;s login" in client.get("/login").text
        done = _log_in(client, "ann")
        assert (done.status_code, done.headers["location"]) == (303, "/projects")
        assert f'href="/projects/{bench.project}/label"' in client.get("/projects").text
        assert client.get("/new").status_code in (403, 404)
        page = client.get("/account").text
        assert provider in page
        assert 'name="old"' not in page  # there is no password to change
        csrf = re.findall(r'name="csrf" content="([^"]+)"', page)[0]
        out = client.post("/logout", data={"csrf": csrf}, follow_redirects=True)
        assert "Log out of Example&#39;s login too" in out.text
        leave = client.get("/login/oidc/out").headers["location"]
        assert leave.startswith(f"{provider}/oauth2/end_session?client_id=labels&post_logout")
        assert client.get("/projects").status_code == 303
        _log_in(client, "ann")
        with served.database.read() as session:
            assert len(session.scalars(select(SignOnIdentity)).all()) == 1

        ben = httpx.Client(base_url=served.url, timeout=60)
        _log_in(ben, "ben")
        assert "Ben" in ben.get("/projects").text
        with served.database.read() as session:
            rights = dict(
                session.execute(
                    select(Annotator.name, Account.creates_projects).join(
                        Account, Account.annotator_id == Annotator.id
                    )
                ).all()
            )
        assert (rights["Ann"], rights["Ben"]) == (False, True)
        for stranger in ("eve", "sub"):
            refused = _log_in(httpx.Client(base_url=served.url, timeout=60), stranger)
            assert refused.status_code == 403
            assert "not among those who are let in" in refused.text
        assert said == []
    finally:
        served.stop()


def test_under_a_prefix_and_behind_a_proxy_the_address_is_the_browser_s(
    provider: str, tmp_path: Path
):
    served, _ = _served(
        tmp_path, _settings(provider), root_path="/labels", trusted=["127.0.0.1"],
        secure_cookies=True,
    )  # fmt: skip
    try:
        head = {"X-Forwarded-Host": "labels.example.com", "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "203.0.113.5"}  # fmt: skip
        client = httpx.Client(base_url=served.url, timeout=60, headers=head)
        assert 'href="/labels/login/oidc"' in client.get("/labels/login").text
        begun = client.get("/labels/login/oidc?next=/account")
        asked = parse_qs(urlsplit(begun.headers["location"]).query)
        assert asked["redirect_uri"] == ["https://labels.example.com/labels/login/oidc/callback"]
        cookie = begun.headers["set-cookie"].lower()
        assert all(word in cookie for word in ("httponly", "secure", "path=/labels", "samesite"))
        back = urlsplit(_at_provider(begun.headers["location"], "ann"))
        kept = {"cookie": begun.headers["set-cookie"].split(";")[0]}
        done = client.get(f"{back.path}?{back.query}", headers=kept)
        assert (done.status_code, done.headers["location"]) == (303, "/labels/account")
    finally:
        served.stop()


def test_in_a_browser_by_an_invitation(provider: str, tmp_path: Path, chromium: Any):
    served, said = _served(tmp_path, _settings(provider))
    bench = Bench(served.database, annotators=0, overlap=1)
    secret = people.invite(served.database, bench.owner, bench.project)
    _person(provider, "carla", name="Carla")
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(15_000)
    try:
        page.goto(f"{served.url}/join/{secret}")
        page.get_by_role("link", name="Log in with single sign-on").click()
        page.locator("input[name=sub]").last.fill("carla")
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Join as Carla").click()
        page.wait_for_selector("dialog#guidelines[open]")
        page.goto(f"{served.url}/account")
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("link", name="Log out of single sign-on too").click()
        page.wait_for_url("**/oauth2/end_session**")
        page.goto(f"{served.url}/projects/{bench.project}/label")
        page.get_by_role("link", name="Log in with single sign-on").click()
        page.locator("input[name=sub]").last.fill("carla")
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/projects/{bench.project}/label")
        assert said == []
    finally:
        context.close()
        served.stop()


# --- a provider that does what it is told


class Liar:
    """A provider of a few lines, which signs what a test tells it to. It gives a code once, and
    holds the code's verifier against the challenge."""

    def __init__(self) -> None:
        self.key = RSAKey.generate_key(2048, {"kid": "one"})
        self.address = ""
        self.claims: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {"sub": "ann"}
        self.sign: Callable[[dict[str, Any], dict[str, Any]], str] | None = None
        self.asked: dict[str, str] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.requests: list[str] = []
        self.jwks: Any = None

    def get(self, path: str) -> tuple[int, Any]:
        self.requests.append(path)
        if path == "/.well-known/openid-configuration":
            found = {
                "issuer": self.address,
                **{f"{name}_endpoint": f"{self.address}/{name}"
                    for name in ("authorization", "token", "userinfo")},
                "jwks_uri": f"{self.address}/jwks",
                "token_endpoint_auth_methods_supported": ["client_secret_post"],
            }  # fmt: skip
            return 200, {**found, **self.metadata}
        if path == "/jwks":
            return 200, self.jwks or {"keys": [self.key.as_dict(private=False)]}
        return (200, self.userinfo) if path == "/userinfo" else (404, {})

    def authorize(self, address: str) -> dict[str, str]:
        """What a browser does at the authorization endpoint; returns the answer's parameters."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        code = urlsafe_b64encode(os.urandom(9)).decode()
        self.asked, self.codes[code] = asked, asked
        return {"code": code, "state": asked["state"]}

    def token(self, form: dict[str, str]) -> tuple[int, Any]:
        self.requests.append("/token")
        asked = self.codes.pop(form.get("code", ""), None)
        proof = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or proof.rstrip(b"=").decode() != asked["code_challenge"]
            or form.get("redirect_uri") != asked["redirect_uri"]
            or form.get("client_secret") != "shh"
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.address, "sub": "ann", "aud": CLIENT, "exp": now + 300, "iat": now,
            "nonce": asked["nonce"], "name": "Ann", **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        header = {"alg": "RS256", "kid": "one", **self.header}
        signed = self.sign or (lambda head, said: jwt.encode(head, said, self.key))
        return 200, {
            "access_token": "a",
            "token_type": "Bearer",
            "id_token": signed(header, claims),
        }


@pytest.fixture
def liar() -> Iterator[Liar]:
    made = Liar()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(*made.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self._answer(*made.token({k: v[0] for k, v in parse_qs(body).items()}))

        def _answer(self, status: int, found: Any) -> None:
            body = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def door(liar: Liar, tmp_path: Path) -> Iterator[tuple[Served, list[str]]]:
    secret = tmp_path / "secret"
    secret.write_text("shh\n")
    rules = {"anybody": True, "emails": ["x@y.z"], "groups": ["g"]}
    served, said = _served(
        tmp_path, _settings(liar.address, client_secret_file=secret, allow=rules)
    )
    yield served, said
    served.stop()


def _back(served: Served, liar: Liar, **changed: str | None) -> httpx.Response:
    with httpx.Client(base_url=served.url, timeout=60) as client:
        begun = client.get("/login/oidc")
        answer = liar.authorize(begun.headers["location"]) | changed
        kept = {name: value for name, value in answer.items() if value is not None}
        return client.get("/login/oidc/callback", params=kept)


def _part(value: dict[str, Any] | bytes) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(text).rstrip(b"=").decode()


def _hs256(header: dict[str, Any], claims: dict[str, Any], liar: Liar) -> str:
    """Signed with the public key as if it were a shared secret."""
    text = f"{_part({**header, 'alg': 'HS256'})}.{_part(claims)}"
    made = hmac.digest(liar.key.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{_part(made)}"


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{_part({**header, 'alg': 'none'})}.{_part(claims)}."


def test_what_is_right_comes_in(liar: Liar, door: tuple[Served, list[str]]):
    served, said = door
    done = _back(served, liar)
    assert (done.status_code, said) == (303, [])
    assert "burnish_session" in done.headers["set-cookie"]
    assert liar.asked["code_challenge_method"] == "S256"
    assert liar.asked["response_type"] == "code"
    assert "openid" in liar.asked["scope"].split()
    assert len(liar.asked["nonce"]) > 30 < len(liar.asked["state"])


_NOW = time.time()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"nonce": "another"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"exp": int(_NOW) - 3600}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"iat": int(_NOW) + 36_000}, "future"),
        ({"nbf": int(_NOW) + 36_000}, "not yet valid"),
        ({"aud": "another"}, "aud"),
        ({"aud": []}, "aud"),
        ({"aud": [CLIENT, "another"]}, "azp"),
        ({"aud": [CLIENT, "another"], "azp": "another"}, "azp"),
        ({"aud": None}, "aud"),
        ({"iss": "https://evil.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
        ({"sub": "x" * 256}, "nobody"),
        ({"at_hash": "AAAA"}, "at_hash"),
    ],
)
def test_claims_that_do_not_fit(
    liar: Liar, door: tuple[Served, list[str]], claims: dict[str, Any], why: str
):
    served, said = door
    liar.claims = claims
    refused = _back(served, liar)
    assert refused.status_code == 403
    assert "the sign-in did not succeed" in refused.text
    assert "burnish_session" not in refused.headers.get("set-cookie", "")
    assert why in said[0].lower()
    assert liar.address not in refused.text
    with served.database.read() as session:
        assert session.scalars(select(SignOnIdentity)).all() == []


@pytest.mark.parametrize("how", ["none", "hs256", "another key", "cut", "not one", "no kid"])
def test_signatures_that_do_not_fit(liar: Liar, door: tuple[Served, list[str]], how: str):
    served, said = door
    other = RSAKey.generate_key(2048, {"kid": "one"})
    liar.sign = {
        "none": _unsigned,
        "hs256": lambda head, claims: _hs256(head, claims, liar),
        "another key": lambda head, claims: jwt.encode(head, claims, other),
        "cut": lambda head, claims: jwt.encode(head, claims, liar.key)[:-20],
        "not one": lambda head, claims: "x",
        "no kid": lambda head, claims: jwt.encode({"alg": "RS256"}, claims, other),
    }[how]
    assert _back(served, liar).status_code == 403
    assert "the token does not fit" in said[0]


def test_answers_that_do_not_fit(liar: Liar, door: tuple[Served, list[str]]):
    served, said = door
    for changed in (
        {"state": "another"},
        {"state": None},
        {"code": None},
        {"code": "made-up"},
        {"error": "access_denied", "code": None},
        {"iss": "https://evil.example"},
    ):
        assert _back(served, liar, **changed).status_code == 403, changed
    assert len(said) == 6
    assert "/token" not in liar.requests[: liar.requests.index("/token")]
    assert liar.requests.count("/token") == 1  # for the made-up code alone
    assert _back(served, liar, iss=liar.address).status_code == 303
    liar.metadata = {"authorization_response_iss_parameter_supported": True}
    again, told = Provider(_settings(liar.address)), {"code": "x", "error": "", "iss": ""}
    _, begun = again.begin("http://x/back", target="/")
    with pytest.raises(Exception, match="another issuer"):
        again.finish(begun, {**told, "state": begun.state}, "http://x/back")


def test_an_answer_is_good_once_and_in_one_browser(liar: Liar, door: tuple[Served, list[str]]):
    served, _ = door
    client = httpx.Client(base_url=served.url, timeout=60)
    begun = client.get("/login/oidc")
    kept = begun.headers["set-cookie"].split(";")[0]
    answer = liar.authorize(begun.headers["location"])
    stranger = httpx.get(f"{served.url}/login/oidc/callback", params=answer)
    assert stranger.status_code == 403
    assert "in another browser" in stranger.text
    assert client.get("/login/oidc/callback", params=answer).status_code == 303
    assert client.get("/login/oidc/callback", params=answer).status_code == 403
    replayed = httpx.get(
        f"{served.url}/login/oidc/callback", params=answer, headers={"cookie": kept}
    )
    assert replayed.status_code == 403  # the provider gives nothing for the code any more
    for cookie in ("x", urlsafe_b64encode(b'{"state": 1}').decode(), "%", "é".encode().hex()):
        head = {"cookie": f"burnish_sign_in={cookie}"}
        wrong = httpx.get(f"{served.url}/login/oidc/callback", params=answer, headers=head)
        assert wrong.status_code == 403


@pytest.mark.parametrize(
    "target",
    [
        *("https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example"),
        *("javascript:alert(1)", "/%0d%0aLocation:x\r\nx: y", "evil.example", "/\t/evil.example"),
    ],
)
def test_nobody_is_led_elsewhere(liar: Liar, door: tuple[Served, list[str]], target: str):
    served, _ = door
    client = httpx.Client(base_url=served.url, timeout=60)
    begun = client.get("/login/oidc", params={"next": target})
    answer = liar.authorize(begun.headers["location"])
    done = client.get("/login/oidc/callback", params=answer)
    assert (done.status_code, done.headers["location"]) == (303, "/projects")
    # nor where the cookie says so
    begun = client.get("/login/oidc")
    text = begun.headers["set-cookie"].split(";")[0].split("=", 1)[1].strip('"')
    kept = json.loads(urlsafe_b64decode(text)) | {"target": target}
    cookie = urlsafe_b64encode(json.dumps(kept).encode()).decode()
    answer = liar.authorize(begun.headers["location"])
    head = {"cookie": f"burnish_sign_in={cookie}"}
    done = httpx.get(f"{served.url}/login/oidc/callback", params=answer, headers=head)
    assert (done.status_code, done.headers["location"]) == (303, "/projects")
    assert client.get("/login", params={"next": target}).headers["location"] == "/projects"
    accounts.create_user(served.database, f"pat{abs(hash(target))}", "correct horse battery")
    form = httpx.Client(base_url=served.url, timeout=60)
    page = form.get("/login", params={"next": target})
    assert 'name="next"' not in page.text
    sent = {
        "name": f"pat{abs(hash(target))}", "password": "correct horse battery", "next": target,
        "csrf": re.findall(r'name="csrf" value="([^"]+)"', page.text)[0],
    }  # fmt: skip
    assert form.post("/login", data=sent).headers["location"] == "/projects"


def test_a_page_that_needs_a_login_is_gone_on_to(liar: Liar, door: tuple[Served, list[str]]):
    served, _ = door
    client = httpx.Client(base_url=served.url, timeout=60)
    asked = client.get("/account?x=1").headers["location"]
    assert asked == "/login?next=%2Faccount%3Fx%3D1"
    page = client.get(asked).text
    link = re.findall(r'href="(/login/oidc[^"]*)"', page)[0]
    answer = liar.authorize(client.get(link).headers["location"])
    done = client.get("/login/oidc/callback", params=answer)
    assert done.headers["location"] == "/account?x=1"


def test_a_long_address_costs_the_page_and_not_the_login(
    liar: Liar, door: tuple[Served, list[str]]
):
    served, _ = door
    target = "/projects/1/items?text=" + "x" * 3000
    client = httpx.Client(base_url=served.url, timeout=60)
    link = re.findall(
        r'href="(/login/oidc[^"]*)"', client.get("/login", params={"next": target}).text
    )
    assert link == ["/login/oidc"]
    begun = client.get("/login/oidc", params={"next": target})
    assert len(begun.headers["set-cookie"]) < 2000
    answer = liar.authorize(begun.headers["location"])
    done = client.get("/login/oidc/callback", params=answer)
    assert (done.status_code, done.headers["location"]) == (303, "/projects")


def test_keys_that_changed_are_read_anew(liar: Liar, door: tuple[Served, list[str]]):
    served, said = door
    assert _back(served, liar).status_code == 303
    liar.key = RSAKey.generate_key(2048, {"kid": "two"})
    liar.header = {"kid": "two"}
    assert _back(served, liar).status_code == 303
    assert _back(served, liar).status_code == 303
    assert liar.requests.count("/jwks") == 2
    assert said == []


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"issuer": "https://evil.example"}, "calls itself"),
        ({"authorization_endpoint": "http://evil.example/a"}, "no safe"),
        ({"authorization_endpoint": None}, "no safe"),
        ({"token_endpoint": "ftp://x"}, "no safe"),
        ({"jwks_uri": 5}, "no safe"),
    ],
)
def test_a_provider_that_does_not_do(
    liar: Liar, door: tuple[Served, list[str]], metadata: dict[str, Any], why: str
):
    served, said = door
    liar.metadata = metadata
    client = httpx.Client(base_url=served.url, timeout=60)
    begun = client.get("/login/oidc")
    if begun.status_code == 303:
        answer = liar.authorize(begun.headers["location"])
        begun = client.get("/login/oidc/callback", params=answer)
    assert begun.status_code == 502
    assert "does not answer as it should" in begun.text
    assert why in said[0]


def test_a_provider_that_is_away_or_talks_too_much_holds_nobody_up(
    liar: Liar, door: tuple[Served, list[str]], tmp_path: Path
):
    served, said = door
    liar.metadata = {"x": "x" * 2_000_000}
    assert httpx.get(f"{served.url}/login/oidc", timeout=60).status_code == 502
    assert "too much" in said[0]
    away = Provider(_settings(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        away.begin("http://x/", target="/")
    assert away.goodbye("http://x/") is None


def test_groups_and_addresses_come_from_the_token_or_from_the_further_answer(liar: Liar):
    settings = _settings(
        liar.address, allow={"emails": ["ann@example.com"], "groups": ["g"]}, groups_claim="roles"
    )

    def found(claims: dict[str, Any], more: dict[str, Any]) -> Identity:
        provider = Provider(settings)
        provider._secret = "shh"
        liar.claims, liar.userinfo = claims, {"sub": "ann", **more}
        address, begun = provider.begin("http://x/back", target="/")
        answer = {"error": "", "iss": "", **liar.authorize(address)}
        return provider.finish(begun, answer, "http://x/back")

    mail = {"email": "ann@example.com"}
    assert found({"roles": "g"}, {}).groups == {"g"}
    assert found({}, {"roles": ["g", 5]}).groups == {"g"}
    assert found({**mail, "email_verified": True}, {}).email == "ann@example.com"
    assert found({}, {**mail, "email_verified": "true"}).email == "ann@example.com"
    assert found(mail, {}).email == ""
    # that another address is verified says nothing of this one
    assert found(mail, {"email": "eve@example.com", "email_verified": True}).email == (
        "eve@example.com"
    )
    assert found({"email": "x@y.z", "email_verified": True}, {**mail}).email == "x@y.z"
    with pytest.raises(Exception, match="somebody else"):
        found({}, {"sub": "eve"})


# --- accounts


def _identity(subject: str = "1", **more: Any) -> Identity:
    return Identity(ISSUER, subject, **more)


def _enter(database: Database, identity: Identity, **rules: Any) -> str:
    secret = identities.enter(database, identity, _settings(**rules), address="x")
    caller = accounts.caller_of_session(database, secret)
    assert caller is not None
    return caller.name


def test_no_name_and_no_address_opens_somebody_else_s_account(database: Database):
    accounts.create_user(database, "olga", "correct horse battery", creates_projects=True)
    assert _enter(database, _identity("1", name="OLGA")) == "OLGA 2"
    assert _enter(database, _identity("2", name="olga")) == "olga 3"
    assert _enter(database, _identity("1", name="now another")) == "OLGA 2"
    mail = {"name": "Ann", "email": "ann@example.com"}
    assert _enter(database, _identity("3", **mail)) == "Ann"
    assert _enter(database, _identity("4", **mail)) == "Ann 2"
    other = Identity("https://other.example", "3", **mail)
    assert _enter(database, other) == "Ann 3"
    assert _enter(database, _identity("5")) == "person"
    assert _enter(database, _identity("6", name="\x00\n \u202e")) == "person 2"
    assert len(_enter(database, _identity("7", name="x" * 500))) <= 60
    with database.read() as session:
        owner = accounts.account_of(session, "olga")
        assert (
            session.scalars(
                select(SignOnIdentity).where(SignOnIdentity.account_id == owner.id)
            ).all()
            == []
        )


def test_rights_follow_the_rules_at_every_login(database: Database):
    bench = Bench(database, annotators=0, rows=[])
    rules = {
        "owners": {"groups": ["leads"]},
        "projects": [{"project": "p", "role": "reviewer", "groups": ["desk"]}],
    }
    lead = _identity("1", name="Lea", groups=frozenset({"leads", "desk"}))
    assert _enter(database, lead, **rules) == "Lea"

    def rights() -> tuple[bool, str | None]:
        with database.read() as session:
            account = accounts.account_of(session, "Lea")
            role = select(Member.role).where(Member.annotator_id == account.annotator_id)
            return account.creates_projects, session.scalar(role)

    assert rights() == (True, "reviewer")
    member = next(
        one for one in people.members(database, bench.owner, bench.project) if one["name"] == "Lea"
    )
    people.change_member(
        database, bench.owner, bench.project, member["id"], changes={"role": "annotator"}
    )
    _enter(database, _identity("1", groups=frozenset({"desk"})), **rules)
    assert rights() == (False, "annotator")  # what an owner changed in the project stays
    with pytest.raises(ForbiddenError, match="not among those"):
        _enter(database, _identity("1"), allow={"groups": ["desk"]})
    accounts.set_active(database, "Lea", active=False)
    with pytest.raises(ForbiddenError, match="shut out"):
        _enter(database, lead, **rules)
    log = [row["action"] for row in projects.audit(database, bench.owner, bench.project)]
    assert "enrolled" in log


def test_a_session_ends_when_the_rules_say(database: Database, monkeypatch: Any):
    secret = identities.enter(database, _identity(), _settings(session_hours=1), address="x")
    from datetime import timedelta

    real = accounts.now
    monkeypatch.setattr(accounts, "now", lambda: real() + timedelta(minutes=59))
    assert accounts.caller_of_session(database, secret) is not None
    monkeypatch.setattr(accounts, "now", lambda: real() + timedelta(minutes=61))
    assert accounts.caller_of_session(database, secret) is None


def test_accounts_are_connected_by_who_is_logged_in_and_no_other_way(
    liar: Liar, door: tuple[Served, list[str]]
):
    served, _ = door
    add_caller(served.database, "mia")
    accounts.set_password(served.database, "mia", "correct horse battery")
    client = httpx.Client(base_url=served.url, timeout=60)
    form = re.findall(r'name="csrf" value="([^"]+)"', client.get("/login").text)[0]
    client.post("/login", data={"name": "mia", "password": "correct horse battery", "csrf": form})
    page = client.get("/account").text
    link = re.findall(r'href="(/login/oidc\?connect=[0-9a-f]{64})"', page)[0]
    assert client.get(f"/login/oidc?connect={'0' * 64}").status_code == 403
    assert httpx.get(f"{served.url}{link}").status_code == 403
    begun = client.get(link)
    answer = liar.authorize(begun.headers["location"])
    kept = begun.headers["set-cookie"].split(";")[0]
    other = httpx.get(f"{served.url}/login/oidc/callback", params=answer, headers={"cookie": kept})
    assert other.status_code == 403  # a browser that is not logged in as mia
    answer = liar.authorize(client.get(link).headers["location"])
    assert client.get("/login/oidc/callback", params=answer).headers["location"] == "/account"
    assert "Disconnect" in client.get("/account").text
    fresh = httpx.Client(base_url=served.url, timeout=60)
    answer = liar.authorize(fresh.get("/login/oidc").headers["location"])
    fresh.get("/login/oidc/callback", params=answer)
    assert "<bdi>mia</bdi>" in fresh.get("/account").text

    zoe = add_caller(served.database, "zoe")
    with pytest.raises(ConflictError, match="another account"):
        identities.connect(served.database, zoe, Identity(liar.address, "ann"))
    known = identities.of_caller(served.database, zoe)
    assert known == {"password": False, "identities": []}
    mine = re.findall(r"/account/identities/(\d+)/disconnect", client.get("/account").text)[0]
    csrf = re.findall(r'name="csrf" content="([^"]+)"', client.get("/account").text)[0]
    identities.disconnect(served.database, zoe, int(mine))  # not hers
    assert "Disconnect" in client.get("/account").text
    client.post(f"/account/identities/{mine}/disconnect", data={"csrf": csrf})
    assert "Connect my account" in client.get("/account").text


def test_the_only_way_in_is_kept_and_erasing_takes_it(database: Database):
    secret = identities.enter(database, _identity(name="Ida"), _settings(), address="x")
    caller = accounts.caller_of_session(database, secret)
    assert caller is not None
    (one,) = identities.of_caller(database, caller)["identities"]
    with pytest.raises(ConflictError, match="could not log in"):
        identities.disconnect(database, caller, one["id"])
    erasure.by_name(database, "Ida")
    with database.read() as session:
        assert session.scalars(select(SignOnIdentity)).all() == []
    assert _enter(database, _identity(name="Ida")) == "Ida"


# --- settings


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"issuer": "http://login.example.com"}, "issuer", "https"),
        ({"issuer": "login.example.com"}, "issuer", "https"),
        ({"client_id": ""}, "client_id", "at least 1"),
        ({"client_secret": "x"}, "client_secret", "client_secret_file"),
        ({"allow": {}}, "allow", "nobody"),
        ({"allow": {"domain": ["x.org"]}}, "allow.domain", "domains"),
        ({"scopes": ["profile"]}, "scopes", "openid"),
        ({"projects": [{"project": "p", "role": "boss"}]}, "projects.0.role", "annotator"),
        ({"session_hours": 0}, "session_hours", "greater"),
        ({"session_hours": 9999}, "session_hours", "336"),
    ],
)
def test_settings_that_do_not_do_name_their_field(given: dict[str, Any], field: str, says: str):
    with pytest.raises(UserError) as error:
        _settings(**given)
    assert error.value.field == field
    assert says in str(error.value)


def test_the_page_s_example_is_read():
    page = (Path(__file__).parents[2] / "docs" / "annotation.md").read_text("utf-8")
    lines = re.findall(r"^    issuer: https(?:.*\n    .*)+", page, re.M)
    settings = read_sign_on(yaml.safe_load(lines[0]))
    assert settings.allow.has(_identity(email="somebody@example.com"))
    assert not settings.allow.has(_identity(groups=frozenset({"labelling-leads"})))
    assert settings.owners is not None
    assert settings.projects[0].role == "annotator"


def test_the_secret_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: Any):
    monkeypatch.delenv("BURNISH_OIDC_SECRET", raising=False)
    assert client_secret(_settings()) is None
    monkeypatch.setenv("BURNISH_OIDC_SECRET", "one")
    assert client_secret(_settings()) == "one"
    path = tmp_path / "s"
    with pytest.raises(UserError, match="cannot be read"):
        client_secret(_settings(client_secret_file=path))
    path.write_text(" \n")
    with pytest.raises(UserError, match="is empty"):
        client_secret(_settings(client_secret_file=path))
    path.write_text("two\n")
    assert client_secret(_settings(client_secret_file=path)) == "two"


def test_addresses_that_others_could_read_are_not_safe():
    assert is_safe_address("https://a.example/x")
    assert is_safe_address("http://localhost:5/")
    assert is_safe_address("http://[::1]:5/")
    for address in (
        "http://a.example",
        "https://",
        "//a",
        "http://localhost.evil.org",
        "https://[",
    ):
        assert not is_safe_address(address)


def test_a_cookie_is_read_as_it_was_written_or_not_at_all():
    begun = Begun("s", "n", "v", "/projects", 3)
    assert Begun.read(begun.written()) == begun
    for text in ("", "[]", "{}", "null", '{"state": 1}', begun.written().replace("3", "true")):
        assert Begun.read(text) is None


def test_the_command_says_what_is_wrong_with_the_file(tmp_path: Path, capsys: Any):
    path = tmp_path / "oidc.yaml"
    path.write_text("issuer: https://login.example.com\nclient_id: x\nalow: {anybody: true}\n")
    store = str(tmp_path / "a.sqlite")
    with pytest.raises(SystemExit) as ended:
        main(["annotate", "serve", "--database", store, "--oidc", str(path)])
    assert ended.value.code == 2
    assert 'Did you mean "allow"?' in capsys.readouterr().err
    assert not (tmp_path / "a.sqlite").exists()
