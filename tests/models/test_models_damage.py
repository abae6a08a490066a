"""Whatever is done to a model's folder, loading it ends in the model or in one line: no traceback,
no hang."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_folders import random_llama, reconfigure, reweight, save, shard
from safetensors.torch import load_file, save_file

from burnish.errors import UserError
from burnish.models.backbone import load_backbone
from burnish.models.roles import View
from burnish.models.weights import save_model
from burnish.stages.plan import shape_of

_SECONDS = 60  # far more than any of them takes; a hang takes for ever
Damage = Callable[[Path], Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("whole") / "model")


@contextmanager
def in_time() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"not done after {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome(folder: Path) -> str:
    """The line by which it is refused; "" if it loads."""
    with in_time():
        with suppress(UserError):
            shape_of(str(folder))
        try:
            backbone = load_backbone(str(folder))
        except UserError as error:
            line = str(error)
            assert "\n" not in line
            assert len(line) < 900
            return line
    assert all(bool(parameter.isfinite().all()) for parameter in backbone.model.parameters())
    return ""


def write(name: str, content: bytes | str) -> Damage:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return damage


def replaced_by(name: str, make: Callable[[Path], Any]) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return damage


def config(**fields: Any) -> Damage:
    return lambda folder: reconfigure(folder, **fields)


def header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Change what the weights' file says of itself."""

    def damage(folder: Path) -> None:
        file = folder / "model.safetensors"
        data = file.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        said = json.loads(data[8 : 8 + length])
        text = json.dumps(change(said) or said).encode()
        file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def index(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        shard(folder)
        file = folder / "model.safetensors.index.json"
        said = json.loads(file.read_text())
        file.write_text(json.dumps(change(said) or said))

    return damage


def sharded(damage: Damage) -> Damage:
    return lambda folder: damage(shard(folder))


def tokenizer_json(change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / "tokenizer.json"
        said = json.loads(file.read_text())
        file.write_text(json.dumps(change(said) or said))

    return damage


def same_tensor_twice(folder: Path) -> None:
    shard(folder)
    first, second = sorted(folder.glob("model-*.safetensors"))
    extra = {**load_file(second), **dict([next(iter(load_file(first).items()))])}
    save_file(extra, second, metadata={"format": "pt"})


_FIRST, _SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
_NORM = "model.norm.weight"

REFUSED: dict[str, tuple[Damage, str]] = {
    # config.json
    "config removed": (remove("config.json"), "no config.json"),
    "config empty": (write("config.json", ""), "it is empty"),
    "config cut": (cut("config.json", 0.5), "config.json: this file is not JSON"),
    "config a list": (write("config.json", "[1]"), "no JSON object"),
    "config null": (write("config.json", "null"), "no JSON object"),
    "config binary": (write("config.json", b"\xff\xfe\x00"), "not JSON"),
    "config nested": (write("config.json", '{"a":' * 100_000), "not JSON"),
    "config a folder": (replaced_by("config.json", Path.mkdir), "this is no file"),
    "config a pipe": (replaced_by("config.json", os.mkfifo), "this is no file"),
    "config a device": (
        replaced_by("config.json", lambda p: p.symlink_to("/dev/zero")),
        "this is no file",
    ),
    "config a dead link": (
        replaced_by("config.json", lambda p: p.symlink_to("nowhere")),
        "missing",
    ),
    "no model type": (config(model_type=...), "model_type"),
    "model type a number": (config(model_type=3), "model_type"),
    "model type empty": (config(model_type=""), "model_type"),
    "model type unknown": (config(model_type="lama"), "lama"),
    "model type of vision": (config(model_type="vit"), "vit"),
    "vocabulary of 0": (config(vocab_size=0), ""),
    "vocabulary of -5": (config(vocab_size=-5), ""),
    "vocabulary a word": (config(vocab_size="many"), ""),
    "vocabulary of 10^12": (config(vocab_size=10**12), ""),
    "hidden size of 0": (config(hidden_size=0), ""),
    "hidden size of -64": (config(hidden_size=-64), ""),
    "hidden size of 10^9": (config(hidden_size=10**9), ""),
    "hidden size null": (config(hidden_size=None), ""),
    "hidden size a list": (config(hidden_size=[64]), ""),
    "hidden size a fraction": (config(hidden_size=64.5), ""),
    "layers of 10^9": (config(num_hidden_layers=10**9), "num_hidden_layers"),
    "a layer too many": (config(num_hidden_layers=3), "layers.2"),
    "a layer too few": (config(num_hidden_layers=1), "layers.1"),
    "layers of -1": (config(num_hidden_layers=-1), ""),
    "heads that do not divide": (config(num_attention_heads=7, head_dim=None), ""),
    "heads of 0": (config(num_attention_heads=0), ""),
    "key heads that do not divide": (config(num_key_value_heads=3), ""),
    "key heads of 0": (config(num_key_value_heads=0), ""),
    "head size of 17": (config(head_dim=17), ""),
    "activation unknown": (config(hidden_act="zelu"), "zelu"),
    "rope of an unknown kind": (
        config(rope_parameters={"rope_type": "spiral", "rope_theta": 1e4}),
        "spiral",
    ),
    "rope a word": (config(rope_parameters="long"), ""),
    "rope base 0": (config(rope_parameters={"rope_type": "default", "rope_theta": 0.0}), ""),
    "rope base a word": (config(rope_parameters={"rope_type": "default", "rope_theta": "x"}), ""),
    "norms of NaN": (config(rms_norm_eps=float("nan")), "not finite"),
    "norms of a negative number": (config(rms_norm_eps=-1.0), "not finite"),
    "padding token outside": (config(pad_token_id=5000), "Padding_idx"),
    "end token outside": (config(eos_token_id=5000), "5000"),
    "end token a word": (config(eos_token_id="</s>"), ""),
    "dtype unknown": (config(dtype="float17"), ""),
    "quantised": (config(quantization_config={"quant_method": "gptq", "bits": 4}), "gptq"),
    "tied, without a head": (config(tie_word_embeddings=True, vocab_size=300), "300 x 64"),
    # weights
    "weights removed": (remove("model.safetensors"), "no weights"),
    "weights empty": (write("model.safetensors", b""), "it is empty"),
    "weights cut": (cut("model.safetensors", 0.9), "no whole safetensors file"),
    "weights cut in the header": (cut("model.safetensors", 0.005), "no whole safetensors file"),
    "weights of zeros": (write("model.safetensors", bytes(4096)), "no whole safetensors file"),
    "weights a page": (
        write("model.safetensors", "<html>Not found</html>"),
        "no whole safetensors file",
    ),
    "weights a Git LFS pointer": (
        write(
            "model.safetensors",
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        ),
        "no whole safetensors file",
    ),
    "weights a folder": (replaced_by("model.safetensors", Path.mkdir), "this is no file"),
    "weights a pipe": (replaced_by("model.safetensors", os.mkfifo), "this is no file"),
    "weights a dead link": (
        replaced_by("model.safetensors", lambda p: p.symlink_to("../blobs/0")),
        "leads nowhere",
    ),
    "header of 2^62 bytes": (
        write("model.safetensors", struct.pack("<Q", 2**62) + b"{}"),
        "no whole safetensors file",
    ),
    "tensor beyond the file": (
        header(lambda h: h[_NORM].update(data_offsets=[0, 10**12])),
        "no whole safetensors file",
    ),
    "tensor of negative length": (
        header(lambda h: h[_NORM].update(shape=[-64])),
        "no whole safetensors file",
    ),
    "tensor of another shape": (header(lambda h: h[_NORM].update(shape=[8, 8])), "8 x 8"),
    "tensor of another dtype": (header(lambda h: h[_NORM].update(dtype="I32")), "stored as I32"),
    "tensor of whole numbers": (
        lambda f: reweight(f, lambda w: {**w, _NORM: torch.ones(64, dtype=torch.int64)}),
        "stored as I64",
    ),
    "tensor of truths": (
        lambda f: reweight(f, lambda w: {**w, _NORM: torch.ones(64, dtype=torch.bool)}),
        "stored as BOOL",
    ),
    "tensor of complex numbers": (
        lambda f: reweight(f, lambda w: {**w, _NORM: torch.ones(64, dtype=torch.complex64)}),
        "stored as C64",
    ),
    "tensor renamed": (
        header(lambda h: {k.replace("model.norm", "model.nrm"): v for k, v in h.items()}),
        "model.norm.weight is missing",
    ),
    "scalar for a vector": (
        lambda f: reweight(f, lambda w: {**w, _NORM: torch.tensor(1.0)}),
        "single number",
    ),
    "empty tensor": (
        lambda f: reweight(f, lambda w: {**w, _NORM: torch.ones(0)}),
        "is 0, and config.json makes it 64",
    ),
    "not a number": (
        lambda f: reweight(f, lambda w: {**w, _NORM: torch.full((64,), torch.nan)}),
        "not finite",
    ),
    "weights all infinite": (
        lambda f: reweight(f, lambda w: {k: v / 0 for k, v in w.items()}),
        "not finite",
    ),
    # shards
    "a shard missing": (
        sharded(remove(_SECOND)),
        f"{_SECOND}: this file of the weights is missing",
    ),
    "a shard cut": (sharded(cut(_FIRST, 0.7)), f"{_FIRST}: this file is no whole"),
    "a shard empty": (sharded(write(_FIRST, b"")), f"{_FIRST}.*it is empty"),
    "a tensor in two shards": (same_tensor_twice, f"stands in {_FIRST} as well"),
    "index cut": (
        sharded(cut("model.safetensors.index.json", 0.5)),
        "index.json: this file is not JSON",
    ),
    "index a list": (sharded(write("model.safetensors.index.json", "[]")), "no JSON object"),
    "index without a map": (
        index(lambda i: i.pop("weight_map")),
        "no JSON object|names no weights",
    ),
    "index empty": (index(lambda i: i.update(weight_map={})), "names no weights"),
    "index of numbers": (
        index(lambda i: i["weight_map"].update({_NORM: 3})),
        "no file name inside",
    ),
    "index with an absolute path": (
        index(lambda i: i["weight_map"].update({_NORM: "/etc/passwd"})),
        "no file name inside",
    ),
    "index with a parent path": (
        index(lambda i: i["weight_map"].update({_NORM: "../x.safetensors"})),
        "no file name inside",
    ),
    "index names another shard": (
        index(
            lambda i: i["weight_map"].update(
                {_NORM: _FIRST if i["weight_map"][_NORM] == _SECOND else _SECOND}
            )
        ),
        "does not hold it",
    ),
    "index names a tensor that is not there": (
        index(lambda i: i["weight_map"].update({"model.x": _FIRST})),
        "model.x stands in",
    ),
    "index names a shard that is not there": (
        index(lambda i: i["weight_map"].update({_NORM: "model-00009.safetensors"})),
        "model-00009.safetensors",
    ),
    # tokenizer
    "no tokenizer": (remove("tokenizer.json"), "no tokenizer"),
    "tokenizer empty": (write("tokenizer.json", ""), "tokenizer"),
    "tokenizer cut": (cut("tokenizer.json", 0.5), "tokenizer"),
    "tokenizer a list": (write("tokenizer.json", "[]"), "tokenizer"),
    "tokenizer without a model": (tokenizer_json(lambda t: t.pop("model")), "tokenizer"),
    "tokenizer without words": (
        tokenizer_json(lambda t: t["model"].update(vocab={}, merges=[])),
        "",
    ),
    "tokenizer of an unknown kind": (
        tokenizer_json(lambda t: t["model"].update(type="Telepathy")),
        "tokenizer",
    ),
    "tokenizer with merges of nothing": (
        tokenizer_json(lambda t: t["model"].update(merges=["zz qq"])),
        "tokenizer",
    ),
    "tokenizer with a token far outside": (
        tokenizer_json(lambda t: t["model"]["vocab"].update({"far": 10**6})),
        "none for 'far'",
    ),
    "tokenizer with a negative token": (
        tokenizer_json(lambda t: t["model"]["vocab"].update({"minus": -1})),
        "tokenizer",
    ),
    "tokenizer settings cut": (
        cut("tokenizer_config.json", 0.5),
        "tokenizer_config.json: this file is not JSON",
    ),
    "tokenizer settings a list": (write("tokenizer_config.json", "[]"), "no JSON object"),
    "tokenizer of a missing class": (
        lambda f: reconfigure(
            f,
            "tokenizer_config.json",
            tokenizer_class="NoSuch",
            auto_map={"AutoTokenizer": ["own.NoSuch", None]},
        ),
        "code of its own",
    ),
    "tokenizer's template a number": (
        lambda f: [
            (f / "chat_template.jinja").unlink(),
            reconfigure(f, "tokenizer_config.json", chat_template=7),
        ],
        "",
    ),
    # generation settings
    "generation settings cut": (
        cut("generation_config.json", 0.5),
        "generation_config.json: this file is not JSON",
    ),
    "generation settings a list": (write("generation_config.json", "[]"), "no JSON object"),
    "generation ends outside": (
        lambda f: reconfigure(f, "generation_config.json", eos_token_id=[256, 70_000]),
        "70000|70,000",
    ),
    "generation end a word": (
        lambda f: reconfigure(f, "generation_config.json", eos_token_id="end"),
        "'end'",
    ),
}

LOADS: dict[str, Damage] = {
    "nothing done": lambda folder: None,
    "no generation settings": remove("generation_config.json"),
    "no tokenizer settings but its own": lambda folder: reconfigure(folder, "tokenizer_config.json",
        extra=1),
    "files of other tools": write("README.md", "hello"),
    "a pickle beside the weights": write("pytorch_model.bin", b"\x80"),
    "links to the files": lambda folder: [link(folder, name) for name in ("config.json",
            "model.safetensors")],
    "unknown fields": config(my_field=1, another={"x": []}),
    "kept by other tools": config(quantization_config=None, transformers_version="99.0"),
    "sharded": shard,
    "generation settings that nothing reads": lambda folder: reconfigure(folder,
        "generation_config.json", max_length="long", num_beams={}),
    "a stray shard": write("model-00007-of-00009.safetensors", b"no"),
    "generation settings that disagree": lambda folder: reconfigure(folder,
        "generation_config.json", temperature=0.6, do_sample=False),
}  # fmt: skip


def link(folder: Path, name: str) -> None:
    """As the hub's cache has it: the file is a link to a blob elsewhere."""
    blob = folder.parent / f"blob-{name}"
    (folder / name).rename(blob)
    (folder / name).symlink_to(os.path.relpath(blob, folder))


def copied(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


@pytest.mark.parametrize("name", REFUSED)
def test_damage_is_one_line(whole: Path, tmp_path: Path, name: str):
    damage, match = REFUSED[name]
    folder = copied(whole, tmp_path)
    damage(folder)
    line = outcome(folder)
    assert line, "it was loaded"
    assert str(folder) in line
    assert re.search(match, line), line


@pytest.mark.parametrize("name", LOADS)
def test_what_does_no_harm_loads(whole: Path, tmp_path: Path, name: str):
    folder = copied(whole, tmp_path)
    LOADS[name](folder)
    assert not outcome(folder)
    save_model(View(load_backbone(str(folder))), tmp_path / "again")
    assert not outcome(tmp_path / "again")


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "/no/such/place",
        "no such model",
        "a/b/c",
        "~nobody-here/x",
        "x" * 5000,
        "a\0b",
        "-o/x y",
        "../..",
    ],
)
def test_a_reference_to_nothing_is_one_line(reference: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError) as error:
        load_backbone(reference)
    assert "\n" not in str(error.value)


def test_a_file_is_no_folder(whole: Path):
    with pytest.raises(UserError, match=r"this is a file.*Name the folder"):
        load_backbone(str(whole / "model.safetensors"))


@settings(max_examples=60)
@given(data=st.data())
def test_bytes_changed_anywhere_end_in_the_model_or_in_one_line(whole: Path, data: st.DataObject):
    """In the settings and headers, wherever it is; in the weights themselves only what is not
    finite can be seen."""
    name = data.draw(
        st.sampled_from(
            [
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "generation_config.json",
            ]
        )
    )
    folder = whole.parent / "changed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    content = bytearray((folder / name).read_bytes())
    reach = min(len(content), 4000)
    for place in data.draw(st.lists(st.integers(0, reach - 1), min_size=1, max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(bytes(content))
    outcome(folder)


_FIELDS = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads",
           "num_key_value_heads", "head_dim", "max_position_embeddings", "rms_norm_eps",
           "hidden_act", "eos_token_id",
           "pad_token_id", "bos_token_id", "tie_word_embeddings", "rope_parameters",
           "attention_bias", "mlp_bias",
           "attention_dropout", "initializer_range", "pretraining_tp", "use_cache", "dtype",
           "architectures")  # fmt: skip
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 300),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(0, 3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=1),
)


@settings(max_examples=100)
@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _VALUES, min_size=1, max_size=2))
def test_any_value_in_any_field_ends_in_the_model_or_in_one_line(
    whole: Path, fields: dict[str, Any]
):
    folder = whole.parent / "configured"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    outcome(reconfigure(folder, **fields))


def test_a_wide_model_is_not_made_before_it_is_known_to_be_there(tmp_path: Path):
    """A count that the files cannot fill is refused without the memory for it."""
    folder = save(tmp_path / "model", random_llama(num_hidden_layers=1))
    assert "parameters" in outcome(reconfigure(folder, hidden_size=2**20, intermediate_size=2**22))
