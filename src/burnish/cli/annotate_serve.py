"""The commands of `burnish annotate` about the server: serve, users, backup, demo."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from burnish.cli.numbers import within
from burnish.cli.shared import STORE, AllowHost, Database, Host, Port, Traceback
from burnish.errors import UserError
from burnish.listening import answered_names, in_url, listen

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        help="Read the password from this file instead of asking; - for standard input.",
        show_default=False,
    ),
]

users = typer.Typer(
    help="Who may log in.\n\nExample: `burnish annotate users add olga --owner`",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


def register(group: typer.Typer) -> None:
    """Put the commands into the group."""
    group.command()(serve)
    group.add_typer(users, name="users")
    group.command()(backup)
    group.command()(restore)
    group.command()(demo)


def serve(
    database: Database = STORE,
    host: Host = "127.0.0.1",
    port: Port = 8321,
    chat_model: Annotated[
        str | None,
        typer.Option(help="A model reference or a run's folder to chat with.", show_default=False),
    ] = None,
    chat_endpoint: Annotated[
        str | None,
        typer.Option(
            help="Or an OpenAI-compatible endpoint, such as http://.../v1.", show_default=False
        ),
    ] = None,
    chat_name: Annotated[str, typer.Option(help="The model's name at that endpoint.")] = "default",
    temperature: Annotated[
        float, typer.Option(callback=within("Temperature"), help="Of the chat.")
    ] = 0.9,
    max_new_tokens: Annotated[
        int, typer.Option(callback=within("Tokens"), help="Longest answer of the chat in tokens.")
    ] = 256,
    allow_host: AllowHost = None,
    behind_https: Annotated[
        bool,
        typer.Option(
            help="A proxy adds HTTPS: cookies need it. One on this machine is trusted (see below)."
        ),
    ] = False,
    root_path: Annotated[
        str,
        typer.Option(
            help="The prefix under which a proxy shows the pages, such as /labels.",
            show_default=False,
        ),
    ] = "",
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "An address or network of proxies whose X-Forwarded-For, -Proto, -Host and -Prefix "
                "are believed; may be repeated."
            ),
            show_default=False,
        ),
    ] = None,
    oidc: Annotated[
        Path | None,
        typer.Option(
            help="A file (YAML) that names an OpenID Connect provider, and who comes in by it.",
            show_default=False,
        ),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Serve the annotation pages and the REST API until Ctrl-C.

    Example: `burnish annotate serve --database labels.sqlite --chat-model runs/quickstart`
    """
    if chat_model and chat_endpoint:
        raise UserError("give --chat-model or --chat-endpoint, not both.")
    _run(
        database,
        host=host,
        port=port,
        chat=_chat(chat_model, chat_endpoint, chat_name, temperature, max_new_tokens),
        allow_host=allow_host or [],
        behind_https=behind_https,
        root_path=root_path,
        trusted=trusted_proxy or [],
        oidc=oidc,
    )


def _chat(
    model: str | None, endpoint: str | None, name: str, temperature: float, longest: int
) -> Any:
    from burnish.cli.annotate_chat import EndpointChat, NativeChat

    if model is not None:
        typer.echo(f"loading {model} ...", err=True)
        return NativeChat(model, temperature=temperature, max_new_tokens=longest)
    if endpoint is not None:
        return EndpointChat(endpoint, name, temperature=temperature, max_new_tokens=longest)
    return None


def _run(
    place: str,
    *,
    host: str,
    port: int,
    chat: Any = None,
    allow_host: Sequence[str] = (),
    behind_https: bool = False,
    root_path: str = "",
    trusted: Sequence[str] = (),
    oidc: Path | None = None,
) -> None:
    import uvicorn
    from sqlalchemy import select

    from burnish.annotation.app.context import Site
    from burnish.annotation.app.main import create_app
    from burnish.annotation.app.proxies import read_prefix
    from burnish.annotation.service.database import Database as Opened
    from burnish.annotation.tables import Account
    from burnish.data.labelled import LAYOUTS

    sign_on = None if oidc is None else _sign_on(oidc)
    opened = Opened(place)
    if sign_on is not None:
        _say_missing_projects(opened, sign_on)
    with opened.read() as session:
        if sign_on is None and session.scalar(select(Account.id).limit(1)) is None:
            typer.echo("nobody can log in yet: burnish annotate users add NAME --owner", err=True)
    site = Site(
        opened,
        generate=chat,
        secure_cookies=behind_https,
        import_file=partial(_import, opened),
        layouts=LAYOUTS,
        sign_on=sign_on,
    )
    believed = [*trusted, *(["127.0.0.1", "::1"] if behind_https else [])]
    app = create_app(
        site, hosts=answered_names(host, allow_host), root_path=root_path, trusted=believed,
        say=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
    # what is wrong with a prefix or an address is said before anybody comes
    app.build_middleware_stack()
    listening = listen(host, port)
    prefix = read_prefix(root_path)
    typer.echo(
        f"serving on http://{in_url(host)}:{listening.getsockname()[1]}{prefix} (Ctrl-C ends it)",
        err=True,
    )
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
        timeout_graceful_shutdown=10, timeout_keep_alive=30,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        if chat is not None:
            chat.close()
        opened.close()


def _sign_on(path: Path) -> Any:
    """The provider of single sign-on that a file names. Files named there are looked for beside
    it."""
    from burnish.annotation.sign_on.provider import Provider
    from burnish.annotation.sign_on.rules import read_sign_on
    from burnish.config.yaml_file import YamlFile

    settings = read_sign_on(YamlFile.read(path).values, file=str(path))
    if settings.client_secret_file is not None:
        beside = path.parent / settings.client_secret_file
        settings = settings.model_copy(update={"client_secret_file": beside})
    return Provider(settings, say=lambda line: typer.echo(line, err=True))


def _say_missing_projects(opened: Any, sign_on: Any) -> None:
    from burnish.annotation.service.identities import missing_projects

    for name in missing_projects(opened, sign_on.settings):
        typer.echo(f'single sign-on: there is no project "{name}" yet', err=True)


def _import(opened: Any, path: Path, layout: str, project: str) -> dict[str, int]:
    """An upload in another tool's layout: its items and labels, as `burnish annotate import` takes
    them."""
    from burnish.annotation.snapshot import WORKERS, add_labelled
    from burnish.data.labelled import read_labelled
    from burnish.data.sources import read_rows

    try:
        loaded = read_labelled(read_rows(str(path)), layout=layout, annotator="imported")
    except UserError as error:  # where the upload lay meanwhile is nobody's business
        raise UserError(error.problem, row=error.row, field=error.field, hint=error.hint) from error
    return add_labelled(opened, project, loaded.items, workers=WORKERS)


@users.command("add")
def users_add(
    name: Annotated[str, typer.Argument(help="The name to log in with.")],
    database: Database = STORE,
    owner: Annotated[bool, typer.Option("--owner", help="May create projects.")] = False,
    password_file: PasswordFile = None,
    traceback: Traceback = False,
) -> None:
    """Add somebody who can log in. Annotators better come by an invitation link.

    Example: `burnish annotate users add olga --owner`
    """
    from burnish.annotation.service.accounts import create_user

    create_user(_open(database, make=True), name, _password(password_file), creates_projects=owner)
    typer.echo(f"{name} can log in")


@users.command("list")
def users_list(database: Database = STORE, traceback: Traceback = False) -> None:
    """List who can log in.

    Example: `burnish annotate users list`
    """
    from burnish.annotation.service.accounts import users as found

    for row in found(_open(database)):
        rights = "may create projects" if row["creates_projects"] else ""
        typer.echo(
            f"{row['name']:24} {row['kind']:10} {'active' if row['active'] else 'shut out':9}"
            f" {rights}".rstrip()
        )


@users.command("password")
def users_password(
    name: Annotated[str, typer.Argument(help="Whose.")],
    database: Database = STORE,
    password_file: PasswordFile = None,
    traceback: Traceback = False,
) -> None:
    """Set a new password; the user's browsers are logged out.

    Example: `burnish annotate users password olga`
    """
    from burnish.annotation.service.accounts import set_password

    set_password(_open(database), name, _password(password_file))
    typer.echo(f"{name} has a new password")


@users.command("reset")
def users_reset(
    name: Annotated[str, typer.Argument(help="Whose.")],
    database: Database = STORE,
    url: Annotated[str, typer.Option(help="Where the server is.")] = "http://127.0.0.1:8321",
    traceback: Traceback = False,
) -> None:
    """Print a link by which somebody sets a new password, once, within three days.

    Example: `burnish annotate users reset olga --url https://labels.example.com`
    """
    from burnish.annotation.service.resets import for_name

    typer.echo(f"{url.rstrip('/')}/reset/{for_name(_open(database), name)}")


@users.command("deactivate")
def users_deactivate(
    name: Annotated[str, typer.Argument(help="Whom.")],
    database: Database = STORE,
    undo: Annotated[bool, typer.Option("--undo", help="Let them in again.")] = False,
    traceback: Traceback = False,
) -> None:
    """Shut somebody out; their answers stay.

    Example: `burnish annotate users deactivate mallory`
    """
    from burnish.annotation.service.accounts import set_active

    set_active(_open(database), name, active=undo)
    typer.echo(f"{name} {'is let in again' if undo else 'is shut out'}")


@users.command("erase")
def users_erase(
    name: Annotated[str, typer.Argument(help="Whom.")],
    database: Database = STORE,
    answers: Annotated[
        bool, typer.Option("--answers", help="Their answers go too; else they stay, unnamed.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    traceback: Traceback = False,
) -> None:
    """Forget somebody for good, as the law lets them ask: login, name, notes, drafts, addresses.

    Example: `burnish annotate users erase mallory --yes`
    """
    from burnish.annotation.service.erasure import by_name

    if not yes:
        typer.confirm(f"Erase {name} for good?", abort=True)
    counts = by_name(_open(database), name, keep_answers=not answers)
    typer.echo(f"{name} is erased ({counts['answers']} answers, {counts['notes']} notes deleted)")


@users.command("enrol")
def users_enrol(
    name: Annotated[str, typer.Argument(help="Who: somebody who can log in already.")],
    project: Annotated[str, typer.Argument(help="The project.")],
    database: Database = STORE,
    role: Annotated[str, typer.Option(help="owner, reviewer or annotator.")] = "owner",
    traceback: Traceback = False,
) -> None:
    """Give somebody a role in a project. One that was made on the command line (import, sample) has
    no owner yet.

    Example: `burnish annotate users enrol olga helpfulness`
    """
    from burnish.annotation.service.people import enrol

    enrol(_open(database), name, project, role=role)
    typer.echo(f"{name} is {role} of {project}")


@users.command("token")
def users_token(
    name: Annotated[str, typer.Argument(help="Whose.")],
    database: Database = STORE,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="label, read, manage or export; may be repeated [default: label, read].",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        int | None,
        typer.Option(min=1, max=36_500, help="How long it is good for.", show_default=False),
    ] = None,
    traceback: Traceback = False,
) -> None:
    """Make an API token; it is printed once.

    Example: `burnish annotate users token olga --scope manage --scope export`
    """
    from burnish.annotation.service.accounts import create_token

    wanted = scope or ["label", "read"]
    typer.echo(
        create_token(
            _open(database), account_name=name, name="command line", scopes=wanted, days=days
        )
    )


def backup(
    target: Annotated[
        Path, typer.Argument(help="The file to write; there must be none of this name.")
    ],
    database: Database = STORE,
    traceback: Traceback = False,
) -> None:
    """Copy the database, also while the server serves: an SQLite file, or a dump for PostgreSQL's
    pg_restore.

    Example: `burnish annotate backup labels-monday.sqlite`
    """
    from burnish.annotation.service.backup import back_up

    typer.echo(back_up(database, target))


def restore(
    source: Annotated[Path, typer.Argument(help="What `burnish annotate backup` wrote.")],
    database: Database = STORE,
    traceback: Traceback = False,
) -> None:
    """Put a copy back where there is nothing yet: a new SQLite file, or an empty PostgreSQL
    database.

    Example: `burnish annotate restore labels-monday.sqlite --database annotations.sqlite`
    """
    from burnish.annotation.service.backup import bring_back

    counts = bring_back(source, database)
    typer.echo(
        f"{database}: {counts['projects']} projects, {counts['items']} items, {counts['answers']}"
        " answers"
    )


def demo(
    database: Database = "demo/annotations.sqlite",
    host: Host = "127.0.0.1",
    port: Port = 8321,
    password: Annotated[str, typer.Option(help="Of the demo's owner.")] = "try-burnish",
    only_make: Annotated[
        bool, typer.Option("--only-make", help="Make the database and stop.")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Serve a project with 60 items and a simulated day of labels, to look around in.

    Example: `burnish annotate demo`
    """
    from burnish.annotation.service.demo import is_there, make_demo

    opened = _open(database, make=True)
    if not is_there(opened):
        typer.echo("making 60 items and a day of labels ...", err=True)
        invitation = make_demo(opened, _dialogues(), password=password)
        typer.echo(f"invite somebody: http://{in_url(host)}:{port}/join/{invitation}", err=True)
    typer.echo(f'log in as "owner" with the password "{password}"', err=True)
    opened.close()
    if not only_make:
        _run(database, host=host, port=port)


def _dialogues() -> list[tuple[str, str]]:
    """Questions and good answers from the demonstrations of the quickstart."""
    import json
    from importlib.resources import files

    lines = (
        (files("burnish.data") / "quickstart" / "demonstrations.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    found = [json.loads(line)["messages"] for line in lines]
    return [
        (m[0]["content"], m[1]["content"])
        for m in found
        if len(m) == 2 and len(m[1]["content"].split()) > 8
    ]


def _open(database: str, *, make: bool = False) -> Any:
    from burnish.annotation.service.database import Database as Opened

    if not make and "://" not in database and not Path(database).is_file():
        raise UserError(
            "there is no such database.", file=database, hint="Give it with --database."
        )
    return Opened(database)


def _password(file: Path | None) -> str:
    if file is not None:
        text = sys.stdin.read() if str(file) == "-" else _text(file)
        return text.rstrip("\r\n")
    return typer.prompt("Password", hide_input=True, confirmation_prompt=True)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"this file cannot be read ({error}).", file=file) from error
