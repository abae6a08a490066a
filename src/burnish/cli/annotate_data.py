"""The commands of `burnish annotate` that move labels in and out and say what they are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.errors import UserError

Database = Annotated[
    str,
    typer.Option("--database", "-d", help="The store: a file, or an SQLAlchemy URL such as postgresql+psycopg://..."),
]
Traceback = Annotated[bool, typer.Option("--traceback", help="Show where in the code an error arose.")]
Endpoint = Annotated[
    str | None, typer.Option(help="An OpenAI-compatible API, such as http://127.0.0.1:8000/v1.", show_default=False)
]
_STORE = "annotations.sqlite"
_STORE_ENDINGS = (".sqlite", ".sqlite3", ".db")


def register(group: typer.Typer) -> None:
    """Put the commands into the group."""
    group.command("import")(import_labels)
    group.command("export")(export_labels)
    group.command("stats")(stats)
    group.command("ai")(label_by_model)
    group.command("sample")(sample_candidates)


def import_labels(
    source: Annotated[
        str, typer.Argument(help="A file or folder (.jsonl, .json, .parquet), a hub id, or another store.")
    ],
    project: Annotated[str, typer.Argument(help="The project; made if there is none of this name.")],
    database: Database = _STORE,
    layout: Annotated[
        str | None, typer.Option("--format", help="The layout [default: as the columns say].", show_default=False)
    ] = None,
    annotator: Annotated[str, typer.Option(help="Who labelled, where the layout does not say.")] = "imported",
    split: Annotated[str | None, typer.Option(help="The hub's split.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many rows.", show_default=False)] = None,
    items_only: Annotated[bool, typer.Option(help="Prompts and candidates without their labels.")] = False,
    from_project: Annotated[str, typer.Option(help="Of another store: its project.")] = "preferences",
    traceback: Traceback = False,
) -> None:
    """Bring prompts, candidates and labels into a project: what is there already stays as it is.

    Layouts: burnish, paired (also Anthropic's HH), unpaired, ranking, ultrafeedback, helpsteer, helpsteer2-preference,
    labelstudio, argilla, openai. Another store, such as a run's collect/annotations.sqlite, gives its items and labels.

    Example: `burnish annotate import comparisons.jsonl helpfulness`
    """
    from dataclasses import replace

    from burnish.annotation.snapshot import add_labelled
    from burnish.annotation.store import Store
    from burnish.data.labelled import read_labelled
    from burnish.data.sources import read_rows

    dropped: Any = {}
    if source.endswith(_STORE_ENDINGS):
        items = store_items(_existing(source), from_project)[:limit]
    else:
        loaded = read_labelled(read_rows(source, split=split, limit=limit), layout=layout, annotator=annotator)
        items, dropped = loaded.items, loaded.dropped
    if items_only:
        items = [replace(item, opinions=()) for item in items]
    store = Store(database)
    try:
        counts = add_labelled(store, project, items, settings=import_settings(items))
    finally:
        store.close()
    left = "".join(f", left out {count} ({reason})" for reason, count in dropped.items())
    known = f", {counts['known']} known already" if counts["known"] else ""
    typer.echo(f"{project}: {counts['items']} new items, {counts['labels']} new labels{known}{left}")


def export_labels(
    project: Annotated[str, typer.Argument(help="The project.")],
    out: Annotated[
        Path, typer.Argument(help="The file (.jsonl, .json, .parquet), or a folder to load as a hub dataset.")
    ],
    database: Database = _STORE,
    layout: Annotated[str, typer.Option("--format", help="The layout.")] = "paired",
    strength: Annotated[
        str, typer.Option(help="What a stated strength becomes: ignore, probability or margin.")
    ] = "probability",
    weighted: Annotated[bool, typer.Option(help="Weight votes by their annotators' estimated reliability.")] = True,
    human_share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Thin the labels until people gave this share.", show_default=False),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Write a project's labels for trainers and other tools, with a manifest (version, hashes, annotators' pseudonyms).

    Layouts: burnish (everything), paired, hh, unpaired, ranking, demonstrations, ultrafeedback, helpsteer,
    helpsteer2-preference, labelstudio, argilla, openai. The same project gives the same bytes.

    Example: `burnish annotate export helpfulness labels.jsonl --format paired`
    """
    from burnish.annotation.export import export
    from burnish.annotation.labels import LabelOptions
    from burnish.annotation.snapshot import with_key
    from burnish.annotation.store import Store

    if strength not in ("ignore", "probability", "margin"):
        raise UserError(f'must be ignore, probability or margin, not "{strength}".', field="strength")
    options = LabelOptions(strength=strength, weighted=weighted, human_share=human_share)  # type: ignore[arg-type]
    store = Store(_existing(database))
    try:
        made = export(with_key(store, project), layout, options)
    finally:
        store.close()
    manifest = write_export(made, out)
    share = f"{made.manifest['human_labels']} by people, {made.manifest['ai_labels']} by models"
    left = "".join(f"; left out {count} {reason}" for reason, count in made.manifest["left_out"].items())
    typer.echo(f"{out}: {len(made.rows)} rows from {made.manifest['labels']} labels ({share}){left}")
    typer.echo(f"{manifest}: version {made.manifest['version']}, {made.manifest['content_hash'][:12]}")


def stats(
    project: Annotated[str, typer.Argument(help="The project.")],
    database: Database = _STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the dashboard to this file.", show_default=False)] = None,
    traceback: Traceback = False,
) -> None:
    """Say how far a project is, what it costs, how annotators agree, and which model they prefer.

    Example: `burnish annotate stats helpfulness --html dashboard.html`
    """
    from burnish.annotation.dashboard import dashboard, summary_lines
    from burnish.annotation.dashboard_page import page
    from burnish.annotation.snapshot import take_snapshot
    from burnish.annotation.store import Store
    from burnish.atomic import write_text

    store = Store(_existing(database))
    try:
        found = dashboard(take_snapshot(store, project))
    finally:
        store.close()
    if html is not None:
        write_text(html, page(found))
        typer.echo(html)
    if as_json:
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif html is None:
        typer.echo("\n".join(summary_lines(found)))


def label_by_model(
    project: Annotated[str, typer.Argument(help="The project.")],
    constitution: Annotated[Path, typer.Option(help="A text file: what makes an answer good.")],
    model: Annotated[str, typer.Option(help="Its name at the endpoint; without --endpoint a local model.")],
    database: Database = _STORE,
    endpoint: Endpoint = None,
    name: Annotated[
        str | None, typer.Option(help="The annotator's name [default: the model's].", show_default=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many items.", show_default=False)] = None,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Requests at once (endpoints).")] = 4,
    logprobs: Annotated[bool, typer.Option(help="Use the endpoint's probabilities of A and B.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Where verdicts are kept [default: verdicts.jsonl beside the store].", show_default=False),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Have a model label a project by a written constitution: both orders asked, flips counted, verdicts cached.

    The API key is read from BURNISH_API_KEY or OPENAI_API_KEY. The model's labels are marked as a model's, take no person's
    place, and are compared with people's on the dashboard.

    Example: `burnish annotate ai helpfulness --constitution principles.md --model judge --endpoint http://127.0.0.1:8000/v1`
    """
    from burnish.annotation.ai.judge import Judge, VerdictCache, read_constitution
    from burnish.annotation.ai.label import label_project
    from burnish.annotation.store import Store

    text = read_constitution(constitution)
    place = Path() if "://" in database else Path(_existing(database)).parent
    chat = chat_model(model, endpoint, max_tokens=16, logprobs=logprobs)
    judge = Judge(chat, text, VerdictCache(cache or place / "verdicts.jsonl"))
    store = Store(_existing(database))
    try:
        found = label_project(
            store, project, judge, annotator=name or chat.name, limit=limit, parallel=parallel if endpoint else 1
        )
    finally:
        store.close()
    tally = found.tally
    typer.echo(
        f"{project}: {found.labels} labels by {name or chat.name}, {found.left} items left; of {tally.pairs} pairs asked both "
        f"ways round {tally.flips} verdicts flipped; {tally.unreadable} answers unreadable, {found.cached} from the cache"
    )


def sample_candidates(
    prompts: Annotated[str, typer.Argument(help="Prompts: a file, a folder, a hub id, builtin:quickstart/prompts.")],
    project: Annotated[str, typer.Argument(help="The project; made if there is none of this name.")],
    model: Annotated[list[str], typer.Option(help="A checkpoint, or NAME@URL of an endpoint; repeat for several.")],
    database: Database = _STORE,
    samples: Annotated[int, typer.Option(min=1, max=9, help="Answers of each model to each prompt.")] = 1,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 1.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many prompts.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the random numbers.")] = 0,
    traceback: Traceback = False,
) -> None:
    """Sample answers to prompts from checkpoints and endpoints, and put them into a project to be compared.

    Who wrote what is kept and never shown to annotators. Equal answers to one prompt are shown once.

    Example: `burnish annotate sample prompts.jsonl helpfulness --model runs/a/sft/model --model runs/a/ppo/model`
    """
    from burnish.annotation.settings import Settings
    from burnish.annotation.snapshot import add_labelled
    from burnish.annotation.store import Store
    from burnish.data.columns import prompts as read_prompts
    from burnish.data.sources import read_rows
    from burnish.records import LabelledItem

    if len(model) * samples < 2:
        raise UserError(
            "one answer to a prompt cannot be compared.", field="model", hint="Give two models, or --samples 2."
        )
    asked = read_prompts(read_rows(prompts, limit=limit)).items
    texts: dict[str, dict[str, str]] = {prompt.id: {} for prompt in asked}
    for reference in model:
        for number in range(samples):
            name, _, url = reference.partition("@")
            one = chat_model(name, url or None, max_tokens=max_new_tokens, temperature=temperature, seed=seed + number)
            for prompt in asked:
                texts[prompt.id].setdefault(one.complete(prompt.messages), name)
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
    typer.echo(f"{project}: {counts['items']} new items, {same} prompts left out (no two different answers)")


def revise_answers(
    prompts: Annotated[
        str,
        typer.Argument(help="Prompts: a file, a folder, a hub id. A column `completion` is the answer to begin with."),
    ],
    out: Annotated[Path, typer.Argument(help="The demonstrations (.jsonl); rows that are there already are kept.")],
    constitution: Annotated[Path, typer.Option(help="A text file with one principle a line, after a dash.")],
    model: Annotated[str, typer.Option(help="Its name at the endpoint; without --endpoint a local model.")],
    endpoint: Endpoint = None,
    rounds: Annotated[int, typer.Option(min=1, max=16, help="Critiques and revisions of each answer.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 is greedy.")] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many prompts.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(min=0, help="Draws the principles.")] = 0,
    traceback: Traceback = False,
) -> None:
    """Write demonstrations by Constitutional AI: the model answers, criticises itself by a principle, and revises.

    The revised answers are rows for SFT (`data.demonstrations`). A run that was stopped goes on where it was.

    Example: `burnish revise prompts.jsonl demos.jsonl --constitution principles.md --model runs/a/sft/model`
    """
    from burnish.annotation.ai.judge import principles, read_constitution
    from burnish.annotation.ai.revise import revise
    from burnish.data.columns import prompts as read_prompts
    from burnish.data.sources import read_rows

    rules = principles(read_constitution(constitution))
    chat = chat_model(model, endpoint, max_tokens=max_new_tokens, temperature=temperature, seed=seed)
    done = _rows_done(out)
    asked = [p for p in read_prompts(read_rows(prompts, limit=limit)).items if p.id not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        for prompt in asked:
            begin = prompt.columns.get("completion")
            row = revise(
                prompt, chat, rules, rounds=rounds, seed=seed, answer=begin if isinstance(begin, str) else None
            )
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
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
        return Remote(endpoint, model, temperature=temperature, max_tokens=max_tokens, logprobs=logprobs)
    from burnish.pipeline.chat_model import LocalChat

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
            "holds rows that are no demonstrations of this command.", file=out, hint="Give another file."
        ) from error


def write_export(made: Any, out: Path) -> Path:
    """Write an export's file, or its folder, and the manifest; returns the manifest's path."""
    from burnish.atomic import write_bytes, write_json, write_text

    if out.suffix:
        write_bytes(out, made.data(out.suffix))
        manifest = out.with_name(out.name + ".manifest.json")
    else:
        write_bytes(out / "data" / "train.parquet", made.data(".parquet"))
        manifest = out / "manifest.json"
        write_text(out / "README.md", _card(made.manifest))
    write_json(manifest, made.manifest)
    return manifest


def store_items(source: str, project: str) -> list[Any]:
    """The items of another store's project with their labels, as they would come from a file."""
    from burnish.annotation.snapshot import take_snapshot
    from burnish.annotation.store import Store
    from burnish.records import LabelledItem, Opinion

    store = Store(source)
    try:
        found = take_snapshot(store, project)
    finally:
        store.close()
    opinions: dict[str, list[Opinion]] = {}
    for one in found.answers:
        if one.answer.skipped is None:
            said = one.answer
            opinions.setdefault(one.item_id, []).append(
                Opinion(
                    said.kind, one.annotator, said.ranks if said.ranks is None else tuple(said.ranks), said.payload(),
                    one.annotator_kind, one.seconds, one.created_at, said.presented, one.source,
                )
            )  # fmt: skip
    return [
        LabelledItem(e.prompt, e.candidates, e.sources, tuple(opinions.get(e.item_id, ())), e.kind)
        for e in found.entries
        if e.part == "work" and e.gold is None
    ]


def import_settings(items: Any) -> Any:
    """Settings that hold what is imported: the commonest kind of task, the steps and attributes that occur."""
    from collections import Counter

    from burnish.annotation.settings import Attribute, Settings

    kinds = Counter(item.kind or "ranking" for item in items)
    most = max((abs(o.payload.get("strength") or 0) for item in items for o in item.opinions), default=0)
    rated: dict[str, list[int]] = {}
    for item in items:
        for opinion in item.opinions:
            for name, values in opinion.payload.get("ratings", {}).items():
                rated.setdefault(name, []).extend(v for v in values if v is not None)
    scales = {name: (min(values), max(values)) for name, values in rated.items() if values}
    low, high = min((s[0] for s in scales.values()), default=1), max((s[1] for s in scales.values()), default=5)
    low, high = (0 if low < 1 else 1), max(high, 1 if low < 1 and high <= 1 else 4 if low < 1 else 5)
    given: dict[str, Any] = {"kind": kinds.most_common(1)[0][0] if kinds else "ranking"}
    if most:
        given["steps"] = {1: 2, 2: 4, 3: 6}.get(most, 8)
    if scales:
        given["attributes"] = [Attribute(name=name[:60], low=low, high=min(high, 10)) for name in list(scales)[:12]]
    return Settings(**given)


def _existing(database: str) -> str:
    """A store that is to be read must be there: opening it would make an empty one."""
    if "://" not in database and not Path(database).is_file():
        raise UserError("there is no such store.", file=database, hint="Give it with --database.")
    return database


def _card(manifest: Any) -> str:
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train.parquet\n---\n\n"
        f"# {manifest['project']}\n\n{manifest['rows']} rows in the layout `{manifest['layout']}`, "
        f"version {manifest['version']}, from {manifest['labels']} labels "
        f"({manifest['human_labels']} by people, {manifest['ai_labels']} by models).\n"
        f"Content hash: `{manifest['content_hash']}`. Annotators appear under pseudonyms; see `manifest.json`.\n"
    )
