"""What `burnish doctor` looks at."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

import typer

from burnish.errors import UserError
from burnish.models import int8
from burnish.models.sources import ALIASES, cache_root, cached_models, verify
from burnish.planning.machine import bfloat16_speed, this_machine
from burnish.runs.manifest import environment
from burnish.sandbox import TIERS, Sandbox
from burnish.sandbox.attacks import attack
from burnish.system import usable_cores

_EXTRAS = ("tensorboard", "wandb", "trackio")


def examine() -> int:
    """Print the findings; 0 if everything needed is here, 1 if something is missing or damaged."""
    found = environment()
    missing = 0
    for name in (
        "burnish",
        "python",
        "torch",
        "transformers",
        "tokenizers",
        "peft",
        "numpy",
        "safetensors",
    ):
        ok = found[name] != "not installed"
        missing += not ok
        _line(ok, name, found[name] if ok else f"pip install {name}")
    _line(True, "platform", found["platform"])
    usable = usable_cores()
    _line(True, "cores", f"{usable} usable of {found['cores']}")
    _line(
        found["memory_gb"] >= 6,
        "memory",
        f"{found['memory_gb']} GB"
        + ("" if found["memory_gb"] >= 6 else "; the quickstart needs 6"),
    )
    root = cache_root()
    there = next(p for p in (root, *root.parents) if p.exists())
    free = shutil.disk_usage(there).free / 1e9
    _line(
        free > 5,
        "disk",
        f"{free:.0f} GB free for {root}"
        + ("" if free > 5 else "; a run needs about 3: set BURNISH_CACHE or free some"),
    )
    missing += _models()
    for gpu in _gpus():
        _line(True, "gpu", gpu)
    _line(True, "bfloat16", _bfloat16())
    _line(True, "int8", _int8())
    missing += _sandboxes()
    for name in _EXTRAS:
        here = find_spec(name) is not None
        _line(
            True,
            name,
            "installed" if here else f"not installed (optional): pip install 'burnish[{name}]'",
        )
    return 1 if missing else 0


def _models() -> int:
    cached = {alias: folder for alias, folder, _ in cached_models()}
    damaged = 0
    for alias in ALIASES:
        if alias not in cached:
            _line(False, alias, f"not in the cache: burnish models pull {alias}")
            continue
        bad = verify(cached[alias])
        damaged += bool(bad)
        _line(
            not bad,
            alias,
            (
                str(cached[alias])
                if not bad
                else (
                    f"damaged ({', '.join(bad)}): remove {cached[alias]} and run burnish models"
                    f" pull {alias}"
                )
            ),
        )
    return damaged


def _sandboxes() -> int:
    """Try each tier of the sandbox and attack it; the number of tiers that let something
    through."""
    leaking = 0
    for tier in TIERS:
        try:
            with Sandbox(tier, parallel=2) as sandbox:
                results = list(attack(sandbox))
                walls = [
                    (
                        "system-call filter"
                        if sandbox.seccomp
                        else "NO system-call filter (install libseccomp2)"
                    )
                ]
                walls += [
                    "nested user namespaces possible (bubblewrap 0.8 forbids them)"
                ] * sandbox.nested_namespaces
                python = sandbox.python
        except UserError as error:
            _line(False, tier, f"code rewards cannot use this tier: {error}")
            continue
        through = [f"{each.name}: {detail}" for each, contained, detail in results if not contained]
        leaking += bool(through)
        held = f"{len(results) - len(through)} of {len(results)} attacks contained"
        _line(
            not through,
            tier,
            "; ".join(
                [held, *(f"NOT CONTAINED {each}" for each in through), f"Python {python}", *walls]
            ),
        )
    return leaking


def _gpus() -> list[str]:
    """A line for each."""
    import torch

    if not torch.cuda.is_available():
        lacks = (
            "this torch is built without CUDA" if torch.version.cuda is None else "torch finds none"
        )
        return [f"none ({lacks}): everything runs on the CPU"]
    found = []
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        try:
            wide, narrow = (
                this_machine(device, products=products, seconds=0.2)
                for products in ("float32", "bfloat16")
            )
        except RuntimeError as error:
            found.append(
                f"{torch.cuda.get_device_name(device)} cannot be used: {str(error).splitlines()[0]}"
            )
            continue
        use = "taken by default" if number == 0 else f"taken with model.device=cuda:{number}"
        found.append(
            f"{torch.cuda.get_device_name(device)}, {wide.memory / 1e9:.0f} GB free,"
            f" {wide.flops / 1e12:.0f} TFLOP/s in float32, {narrow.flops / 1e12:.0f} in bfloat16"
            f" (model.dtype); {use}"
        )
    return found


def _bfloat16() -> str:
    speed = bfloat16_speed()
    advice = "use model.dtype=bfloat16" if speed > 1.2 else "keep float32 for training"
    return f"{speed:.1f} times the speed of float32 in training's products: {advice}"


def _int8() -> str:
    reason = int8.lacking()
    if reason is not None:
        return f"none here: {reason}"
    return (
        "fast here: ppo.sampling.quantization=int8"
        if int8.fast_here()
        else "slow on this processor: keep the model's own"
    )


def _line(ok: bool, name: str, value: object) -> None:
    typer.echo(f"{'ok' if ok else '!!'}  {name:13} {value}")
