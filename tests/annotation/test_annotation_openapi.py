"""The OpenAPI document, held against a running server, which answers as the document says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from annotation_bench import Bench, Served, echo, pair_row

from burnish.annotation.service import accounts, projects, work
from burnish.annotation.service.submission import Submission

ITEMS = [
    pair_row("p"), pair_row("q"),
    {"id": "r", "prompt": "?", "kind": "rubric", "candidates": ["a", "b"],
        "rubric": [{"criterion": "c", "weight": 1}]},
    {"id": "c", "prompt": "?", "kind": "chat"},
]  # fmt: skip
ONE = {"project_id": 1, "item_id": 1, "annotator_id": 2, "answer_id": 1, "member_id": 2,
    "invitation_id": 1, "webhook_id": 1, "token_id": 1}  # fmt: skip


@pytest.fixture
def served(tmp_path: Path) -> Any:
    made = Served(str(tmp_path / "a.sqlite"), generate=echo)
    yield made
    made.stop()


def _ready(served: Served) -> tuple[dict[str, str], list[str]]:
    """Something of everything; the owner's headers, and leases that are the owner's."""
    bench = Bench(served.database, annotators=2, rows=ITEMS, overlap=2, turns=1)
    with served.database.write() as session:
        from burnish.annotation.tables import Item, Member

        session.query(Member).update({"state": "active"})
        session.query(Item).update({"slots": 9})
    leases = []
    for person in bench.people:
        held = work.take(served.database, person, bench.project)
        assert held is not None
        if held.kind == "pairwise":
            given = Submission(strength=1 if person.name == "ann0" else -1, seconds=4)
            work.answer(served.database, person, held.lease, given)
    held = work.take(served.database, bench.owner, bench.project)
    assert held is not None
    leases.append(held.lease)
    projects.create(
        served.database, bench.owner, "other", guidelines="", settings={"kind": "likert"}
    )
    with served.database.write() as session:
        account = accounts.account_of(session, "olga")
        cookie = accounts.open_session(session, account, address="x")
    caller = accounts.caller_of_session(served.database, cookie)
    assert caller is not None
    return {"Cookie": f"burnish_session={cookie}", "X-CSRF-Token": caller.csrf}, leases


@pytest.mark.slow
def test_every_answer_is_one_that_the_document_has(served: Served):
    """Every operation, with parameters and bodies that fit and that do not: no failure of the
    server; status, media type and body are as the document says."""
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks as openapi

    checks = [
        not_a_server_error, openapi.status_code_conformance, openapi.content_type_conformance,
        openapi.response_schema_conformance,
    ]  # fmt: skip
    headers, leases = _ready(served)
    schema = schemathesis.openapi.from_url(f"{served.url}/api/v1/openapi.json")
    seen: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck),
            database=None, derandomize=True)  # fmt: skip
        def check(case: Any) -> None:
            for known in (False, True):
                if known:  # what is there: else every answer were "there is no such thing"
                    case.path_parameters = {
                        name: leases[0] if name == "lease" else ONE.get(name, value)
                        for name, value in (case.path_parameters or {}).items()
                    }
                    if case.method == "DELETE" or not case.path_parameters:
                        return
                response = case.call(base_url=served.url, headers=headers)
                case.validate_response(response, checks=checks, headers=headers)
                seen.setdefault(case.operation.label, set()).add(response.status_code)

        check()
    assert len(seen) > 50
    assert "Task" in schema.raw_schema["components"]["schemas"]
    good = {label for label, statuses in seen.items() if min(statuses) < 300}
    assert len(good) > 30, sorted(set(seen) - good)
    assert httpx.get(f"{served.url}/api/v1/me", headers=headers).status_code == 200
    assert served.failures == []


def test_the_document_says_what_is_refused_and_how(served: Served):
    document = httpx.get(f"{served.url}/api/v1/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            refused = {s for s in operation["responses"] if s.startswith("4")}
            assert refused >= {"401", "403", "404", "409", "422", "429"}, (method, path)
            assert operation["summary"]
            content = operation["responses"]["422"]["content"]["application/json"]
            assert content["schema"]["$ref"].endswith("/Problem")
    refusal = httpx.get(f"{served.url}/api/v1/me")
    assert (refusal.status_code, refusal.json()) == (401, {"detail": "log in, or send a token"})
