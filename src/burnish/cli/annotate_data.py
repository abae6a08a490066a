"""The commands of `burnish annotate` that move labels in and out and say what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.numbers import within
from burnish.cli.shared import STORE, Database, Traceback
from burnish.errors import UserError
from burnish.jsonio import dumps, undefined_as_null

_STORE_ENDINGS = (".sqlite", ".sqlite3", ".db")


def register(group: typer.Typer) -> None:
    """Put the commands into the group."""
    group.command("import")(import_labels)
    group.command("export")(export_labels)
    group.command("stats")(stats)


def import_labels(
    source: Annotated[
        str,
        typer.Argument(
            help="A file or folder (.jsonl, .json, .parquet), a hub id, or another store."
        ),
    ],
    project: Annotated[
        str, typer.Argument(help="The project; made if there is none of this name.")
    ],
    database: Database = STORE,
    layout: Annotated[
        str | None,
        typer.Option(
            "--format", help="The layout [default: as the columns say].", show_default=False
        ),
    ] = None,
    annotator: Annotated[
        str, typer.Option(help="Who labelled, where the layout does not say.")
    ] = "imported",
    split: Annotated[str | None, typer.Option(help="The hub's split.", show_default=False)] = None,
    limit: Annotated[
        int | None,
        typer.Option(callback=within("Rows"), help="At most this many rows.", show_default=False),
    ] = None,
    items_only: Annotated[
        bool, typer.Option(help="Prompts and candidates without their labels.")
    ] = False,
    from_project: Annotated[
        str, typer.Option(help="Of another store: its project.")
    ] = "preferences",
    traceback: Traceback = False,
) -> None:
    """Bring prompts, candidates and labels into a project: what is there already stays as it is.

    Layouts: burnish, paired (also Anthropic's HH), unpaired, ranking, ultrafeedback, helpsteer,
    helpsteer2-preference, labelstudio, argilla, openai. Another store, such as a run's
    collect/annotations.sqlite, gives its items and labels.

    Example: `burnish annotate import comparisons.jsonl helpfulness`
    """
    from dataclasses import replace

    from burnish.annotation.snapshot import WORKERS, add_labelled
    from burnish.annotation.store import Store
    from burnish.data.labelled import read_labelled
    from burnish.data.sources import read_rows

    dropped: Any = {}
    if source.endswith(_STORE_ENDINGS):
        items = store_items(existing(source), from_project)[:limit]
    else:
        loaded = read_labelled(
            read_rows(source, split=split, limit=limit), layout=layout, annotator=annotator
        )
        items, dropped = loaded.items, loaded.dropped
    if items_only:
        items = [replace(item, opinions=()) for item in items]
    store = Store(database)
    try:
        workers = "" if source.endswith(_STORE_ENDINGS) else WORKERS
        counts = add_labelled(
            store, project, items, settings=import_settings(items), workers=workers
        )
    finally:
        store.close()
    left = "".join(f", left out {count} ({reason})" for reason, count in dropped.items())
    known = f", {counts['known']} known already" if counts["known"] else ""
    typer.echo(
        f"{project}: {counts['items']} new items, {counts['labels']} new labels{known}{left}"
    )


def export_labels(
    project: Annotated[str, typer.Argument(help="The project.")],
    out: Annotated[
        Path,
        typer.Argument(
            help="The file (.jsonl, .json, .parquet), or a folder to load as a hub dataset."
        ),
    ],
    database: Database = STORE,
    layout: Annotated[str, typer.Option("--format", help="The layout.")] = "paired",
    strength: Annotated[
        str, typer.Option(help="What a stated strength becomes: ignore, probability or margin.")
    ] = "probability",
    weighted: Annotated[
        bool, typer.Option(help="Weight votes by their annotators' estimated reliability.")
    ] = True,
    human_share: Annotated[
        float | None,
        typer.Option(
            callback=within("Probability"),
            help="Thin the labels until people gave this share.",
            show_default=False,
        ),
    ] = None,
    dimension: Annotated[
        str | None,
        typer.Option(
            help="Of what was said by one dimension (helpful, ...), not on the whole.",
            show_default=False,
        ),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Write a project's labels for trainers and other tools, with a manifest (version, hashes,
    annotators' pseudonyms).

    Layouts: burnish (everything), paired, hh, unpaired, ranking, demonstrations, ultrafeedback,
    helpsteer, helpsteer2-preference, labelstudio, argilla, openai. The same project gives the same
    bytes.

    Example: `burnish annotate export helpfulness labels.jsonl --format paired`
    """
    from burnish.annotation.export import export
    from burnish.annotation.labels import LabelOptions
    from burnish.annotation.snapshot import with_key
    from burnish.annotation.store import Store

    if strength not in ("ignore", "probability", "margin"):
        raise UserError(
            f'must be ignore, probability or margin, not "{strength}".', field="strength"
        )
    options = LabelOptions(
        strength=strength,  # type: ignore[arg-type]
        weighted=weighted, human_share=human_share, dimension=dimension,
    )  # fmt: skip
    store = Store(existing(database))
    try:
        made = export(with_key(store, project), layout, options)
    finally:
        store.close()
    manifest = write_export(made, out)
    share = f"{made.manifest['human_labels']} by people, {made.manifest['ai_labels']} by models"
    left = "".join(
        f"; left out {count} {reason}" for reason, count in made.manifest["left_out"].items()
    )
    typer.echo(
        f"{out}: {len(made.rows)} rows from {made.manifest['labels']} labels ({share}){left}"
    )
    typer.echo(
        f"{manifest}: version {made.manifest['version']}, {made.manifest['content_hash'][:12]}"
    )


def stats(
    project: Annotated[str, typer.Argument(help="The project.")],
    database: Database = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write the dashboard to this file.", show_default=False)
    ] = None,
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

    store = Store(existing(database))
    try:
        found = dashboard(take_snapshot(store, project))
    finally:
        store.close()
    if html is not None:
        write_text(html, page(found))
        typer.echo(html)
    if as_json:
        typer.echo(dumps(undefined_as_null(found), indent=2))
    elif html is None:
        typer.echo("\n".join(summary_lines(found)))


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
    write_json(manifest, undefined_as_null(made.manifest))
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
                    said.kind,
                    one.annotator,
                    said.ranks if said.ranks is None else tuple(said.ranks),
                    said.payload(),
                    one.annotator_kind,
                    one.seconds,
                    one.created_at,
                    said.presented,
                    one.source,
                )
            )
    return [
        LabelledItem(e.prompt, e.candidates, e.sources, tuple(opinions.get(e.item_id, ())), e.kind)
        for e in found.entries
        if e.part == "work" and e.gold is None
    ]


def import_settings(items: Any) -> Any:
    """Settings that hold what is imported: the commonest kind of task, the steps and attributes
    that occur."""
    from collections import Counter

    from burnish.annotation.settings import Attribute, Settings

    kinds = Counter(item.kind or "ranking" for item in items)
    most = max(
        (abs(o.payload.get("strength") or 0) for item in items for o in item.opinions), default=0
    )
    rated: dict[str, list[int]] = {}
    for item in items:
        for opinion in item.opinions:
            for name, values in opinion.payload.get("ratings", {}).items():
                rated.setdefault(name, []).extend(v for v in values if v is not None)
    scales = {name: (min(values), max(values)) for name, values in rated.items() if values}
    low, high = (
        min((s[0] for s in scales.values()), default=1),
        max((s[1] for s in scales.values()), default=5),
    )
    low, high = (
        (0 if low < 1 else 1),
        max(high, 1 if low < 1 and high <= 1 else 4 if low < 1 else 5),
    )
    given: dict[str, Any] = {"kind": kinds.most_common(1)[0][0] if kinds else "ranking"}
    if most:
        given["steps"] = {1: 2, 2: 4, 3: 6}.get(most, 8)
    if scales:
        given["attributes"] = [
            Attribute(name=name[:60], low=low, high=min(high, 10)) for name in list(scales)[:12]
        ]
    return Settings(**given)


def existing(database: str) -> str:
    """A store that is to be read must be there: opening it would make an empty one."""
    if "://" not in database and not Path(database).is_file():
        raise UserError("there is no such store.", file=database, hint="Give it with --database.")
    return database


def _card(manifest: Any) -> str:
    return (
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path:"
        f" data/train.parquet\n---\n\n# {manifest['project']}\n\n{manifest['rows']} rows in the"
        f" layout `{manifest['layout']}`, version {manifest['version']}, from {manifest['labels']}"
        f" labels ({manifest['human_labels']} by people, {manifest['ai_labels']} by"
        f" models).\nContent hash: `{manifest['content_hash']}`. Annotators appear under"
        " pseudonyms; see `manifest.json`.\n"
    )
