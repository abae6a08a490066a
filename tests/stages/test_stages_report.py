from __future__ import annotations

from pathlib import Path

import burnish
from burnish.stages.report import closing_table, gather

RECIPE = """
name: twice
model: { name: tiny, max_length: 128 }
threads: 1
data: { demonstrations: d.jsonl, prompts: p.jsonl, heldout: 0.4 }
stages:
  sft: {}
  early: { kind: evaluate, models: [base, sft], sampling: { max_new_tokens: 4 } }
  rounds:
    repeat: 2
    stages:
      sft: { kind: sft }
  soup: { kind: merge, models: [sft, rounds.2.sft] }
  evaluate: { models: [sft, soup], reference: base, sampling: { max_new_tokens: 4 } }
  report: {}
"""


def test_a_run_with_two_evaluations_closes_with_a_table_of_each(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f'{{"prompt": "Say {i}.", "completion": "{i}, gladly."}}\n' for i in range(10)]
    for name in ("d", "p"):
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    (tmp_path / "twice.yaml").write_text(RECIPE)
    folder = burnish.run(burnish.load("twice.yaml"), out="made")
    graph = {row["name"]: row for row in gather(folder)["graph"]}
    assert graph["rounds.2.sft"]["starts"] == ["rounds.1.sft"]
    assert graph["soup"]["starts"] == ["sft", "rounds.2.sft"]
    assert graph["evaluate"]["starts"] == []
    first, second = closing_table(folder).split("\n\nevaluate\n")
    assert first.startswith("early\nNot judged yet\nThe models answered the same held-out prompts")
    assert '"early.people={store: labels.sqlite, project: heldout}"' in first
    assert '"evaluate.people={store: labels.sqlite, project: heldout}"' in second
    table, said = second.split("\n\n")[-2:]
    assert table.splitlines()[-1].startswith("soup")
    assert said.startswith("Answers were drawn at temperature 0.7")
    page = (folder / "report.html").read_text()
    assert "This is the evaluation evaluate." in page
    assert "The weights of the policies sft (50" in page
