"""The commands that ask models: labelling by a constitution, candidates to compare, what to ask
next, critique and revision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.annotate_data import existing
from burnish.cli.numbers import within
from burnish.cli.shared import STORE, Database, Traceback
from burnish.errors import UserError
from burnish.jsonio import json_lines

_AT_ONCE = 64  # prompts that are answered together; after each such part a line is written

Endpoint = Annotated[
    str | None,
    typer.Option(
        help="An OpenAI-compatible API, such as http://127.0.0.1:8000/v1.", show_default=False
    ),
]


def register(group: typer.Typer) -> None:
    """Put the commands into the group of `burnish annotate`."""
    group.command("ai")(label_by_model)
    group.command("sample")(sample_candidates)
    group.command("select")(select_items)


def label_by_model(
    project: Annotated[str, typer.Argument(help="The project.")],
    constitution: Annotated[Path, typer.Option(help="A text file: what makes an answer good.")],
    model: Annotated[
        str, typer.Option(help="Its name at the endpoint; without --endpoint a local model.")
    ],
    database: Database = STORE,
    endpoint: Endpoint = None,
    name: Annotated[
        str | None,
        typer.Option(help="The annotator's name [default: the model's].", show_default=False),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(callback=within("Rows"), help="At most this many items.", show_default=False),
    ] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Requests at once (endpoints).")] = 4,
    logprobs: Annotated[
        bool, typer.Option(help="Use the endpoint's probabilities of A and B.")
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Where verdicts are kept [default: verdicts.jsonl beside the store].",
            show_default=False,
        ),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Have a model label a project by a written constitution: both orders asked, flips counted,
    verdicts cached.

    The API key is read from BURNISH_API_KEY or OPENAI_API_KEY. The model's labels are marked as a
    model's, take no person's place, and are compared with people's on the dashboard.

    Example: `burnish annotate ai helpfulness --constitution principles.md --model judge --endpoint
    http://127.0.0.1:8000/v1`
    """
    from burnish.annotation.ai.judge import Judge, VerdictCache, read_constitution
    from burnish.annotation.ai.label import label_project
    from burnish.annotation.store import Store

    text = read_constitution(constitution)
    place = Path() if "://" in database else Path(existing(database)).parent
    chat = chat_model(model, endpoint, max_tokens=16, logprobs=logprobs)
    judge = Judge(chat, text, VerdictCache(cache or place / "verdicts.jsonl"))
    store = Store(existing(database))
    try:
        found = label_project(
            store,
            project,
            judge,
            annotator=name or chat.name,
            limit=limit,
            parallel=parallel if endpoint else 1,
        )
    finally:
        store.close()
    tally = found.tally
    typer.echo(
        f"{project}: {found.labels} labels by {name or chat.name}, {found.left} items left; of"
        f" {tally.pairs} pairs asked both ways round {tally.flips} verdicts flipped;"
        f" {tally.unreadable} answers unreadable, {found.cached} from the cache"
    )


def sample_candidates(
    prompts: Annotated[
        str, typer.Argument(help="Prompts: a file, a folder, a hub id, builtin:quickstart/prompts.")
    ],
    project: Annotated[
        str, typer.Argument(help="The project; made if there is none of this name.")
    ],
    model: Annotated[
        list[str],
        typer.Option(help="A checkpoint, or NAME@URL of an endpoint; repeat for several."),
    ],
    database: Database = STORE,
    samples: Annotated[
        int, typer.Option(min=1, max=9, help="Answers of each model to each prompt.")
    ] = 1,
    temperature: Annotated[
        float, typer.Option(callback=within("Temperature"), help="0 is greedy.")
    ] = 1.0,
    max_new_tokens: Annotated[
        int, typer.Option(callback=within("Tokens"), help="Longest answer in tokens.")
    ] = 256,
    limit: Annotated[
        int | None,
        typer.Option(
            callback=within("Rows"), help="At most this many prompts.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(callback=within("Seed"), help="Of the random numbers.")] = 0,
    traceback: Traceback = False,
) -> None:
    """Sample answers to prompts from checkpoints and endpoints, and put them into a project to be
    compared.

    Who wrote what is kept and never shown to annotators. Equal answers to one prompt are shown
    once.

    Example: `burnish annotate sample prompts.jsonl helpfulness --model runs/a/sft/model --model
    runs/a/ppo/model`
    """
    from burnish.annotation.settings import Settings
    from burnish.annotation.snapshot import add_labelled
    from burnish.annotation.store import Store
    from burnish.data.columns import prompts as read_prompts
    from burnish.data.sources import read_rows
    from burnish.records import LabelledItem

    if len(model) * samples < 2:
        raise UserError(
            "one answer to a prompt cannot be compared.",
            field="model",
            hint="Give two models, or --samples 2.",
        )
    asked = read_prompts(read_rows(prompts, limit=limit)).items
    texts: dict[str, dict[str, str]] = {prompt.id: {} for prompt in asked}
    for reference in model:
        name, _, url = reference.partition("@")
        one = chat_model(
            name, url or None, max_tokens=max_new_tokens, temperature=temperature, seed=seed
        )
        for done in range(0, len(asked), _AT_ONCE):
            some = asked[done : done + _AT_ONCE]
            for prompt, answers in zip(
                some, one.complete_all([p.messages for p in some], samples=samples), strict=True
            ):
                for text in answers:
                    texts[prompt.id].setdefault(text, name)
            typer.echo(f"{name}: {done + len(some)} of {len(asked)} prompts answered", err=True)
    items = [
        LabelledItem(prompt, tuple(found), tuple(found.values()))
        for prompt in asked
        if len(found := {t: n for t, n in texts[prompt.id].items() if t.strip()}) > 1
    ]
    kind = "pairwise" if all(len(item.candidates) == 2 for item in items) else "ranking"
    store = Store(database)
    try:
        counts = add_labelled(store, project, items, settings=Settings(kind=kind))
    finally:
        store.close()
    same = len(asked) - len(items)
    typer.echo(
        f"{project}: {counts['items']} new items, {same} prompts left out (no two different"
        " answers)"
    )


def select_items(
    project: Annotated[str, typer.Argument(help="The project.")],
    model: Annotated[
        list[Path],
        typer.Option(
            help="A reward model's folder (a run's reward/model); repeat for an ensemble."
        ),
    ],
    database: Database = STORE,
    traceback: Traceback = False,
) -> None:
    """Offer first what teaches a reward model most: what an ensemble disagrees on, or one model is
    unsure of.

    Sets the score of every item that still wants answers; of equal priority, annotators meet the
    highest first. On the simulated panel this saves a part of the labels or none, see
    docs/annotation-statistics.md.

    Example: `burnish annotate select helpfulness --model runs/a/reward/model --model
    runs/b/reward/model`
    """
    from burnish.annotation.selection import assign_scores
    from burnish.annotation.snapshot import take_snapshot
    from burnish.annotation.store import Store
    from burnish.stages.selecting import scores_of

    store = Store(existing(database))
    try:
        snapshot = take_snapshot(store, project)
        given = {one.item_id: 0 for one in snapshot.answers}
        for one in snapshot.answers:
            given[one.item_id] += one.answer.skipped is None
        wanted = [
            entry
            for entry in snapshot.entries
            if entry.part == "work"
            and entry.gold is None
            and len(entry.candidates) > 1
            and given.get(entry.item_id, 0) < snapshot.settings.overlap
        ]
        scores = scores_of(model, wanted, say=lambda line: typer.echo(line, err=True))
        typer.echo(
            f"{project}: {assign_scores(store, project, scores)} items scored by {len(model)}"
            " reward models"
        )
    finally:
        store.close()


def revise_answers(
    prompts: Annotated[
        str,
        typer.Argument(
            help=(
                "Prompts: a file, a folder, a hub id. A column `completion` is the answer to begin"
                " with."
            )
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(help="The demonstrations (.jsonl); rows that are there already are kept."),
    ],
    constitution: Annotated[
        Path, typer.Option(help="A text file with one principle a line, after a dash.")
    ],
    model: Annotated[
        str, typer.Option(help="Its name at the endpoint; without --endpoint a local model.")
    ],
    endpoint: Endpoint = None,
    rounds: Annotated[
        int, typer.Option(min=1, max=16, help="Critiques and revisions of each answer.")
    ] = 1,
    max_new_tokens: Annotated[
        int, typer.Option(callback=within("Tokens"), help="Longest answer in tokens.")
    ] = 256,
    temperature: Annotated[
        float, typer.Option(callback=within("Temperature"), help="0 is greedy.")
    ] = 0.0,
    limit: Annotated[
        int | None,
        typer.Option(
            callback=within("Rows"), help="At most this many prompts.", show_default=False
        ),
    ] = None,
    seed: Annotated[int, typer.Option(callback=within("Seed"), help="Draws the principles.")] = 0,
    traceback: Traceback = False,
) -> None:
    """Write demonstrations by Constitutional AI: the model answers, criticises itself by a
    principle, and revises.

    The revised answers are rows for SFT (`data.demonstrations`). A run that was stopped goes on
    where it was.

    Example: `burnish revise prompts.jsonl demos.jsonl --constitution principles.md --model
    runs/a/sft/model`
    """
    from burnish.annotation.ai.judge import principles, read_constitution
    from burnish.annotation.ai.revise import revise
    from burnish.data.columns import prompts as read_prompts
    from burnish.data.sources import read_rows

    rules = principles(read_constitution(constitution))
    chat = chat_model(
        model, endpoint, max_tokens=max_new_tokens, temperature=temperature, seed=seed
    )
    done = _rows_done(out)
    asked = [p for p in read_prompts(read_rows(prompts, limit=limit)).items if p.id not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        for prompt in asked:
            begin = prompt.columns.get("completion")
            answers = [begin if isinstance(begin, str) else None]
            file.write(
                json_lines(revise([prompt], chat, rules, rounds=rounds, seed=seed, answers=answers))
            )
            file.flush()
    typer.echo(f"{out}: {len(asked)} new demonstrations, {len(done)} were there")


def chat_model(
    model: str,
    endpoint: str | None,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int = 0,
    logprobs: bool = False,
) -> Any:
    """The model behind an endpoint, or a local one."""
    if endpoint is not None:
        from burnish.endpoint import Endpoint as Remote

        if not endpoint.startswith(("http://", "https://")):
            raise UserError("must begin with http:// or https://.", field="endpoint")
        return Remote(
            endpoint, model, temperature=temperature, max_tokens=max_tokens, logprobs=logprobs
        )
    from burnish.stages.chat_model import LocalChat

    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    return LocalChat(model, max_new_tokens=max_tokens, temperature=temperature, seed=seed, say=say)


def _rows_done(out: Path) -> set[str]:
    """Ids of the rows in a file of JSON lines; a last line that a crash tore is cut off."""
    if not out.is_file():
        return set()
    text = out.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        from burnish.atomic import write_text

        write_text(out, whole)
    try:
        return {str(json.loads(line)["id"]) for line in whole.splitlines() if line.strip()}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            "holds rows that are no demonstrations of this command.",
            file=out,
            hint="Give another file.",
        ) from error
