"""`make bench`: run a workload with Burnish and with its peer, one after the other, and print one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from burnish.evaluation.uncertainty import bootstrap_share, paired_difference
from burnish.models.sources import resolve

HERE = Path(__file__).parent
ENVIRONMENTS = Path(".bench")
PEERS = {
    "trl-ppo": ["torch==2.13.0", "trl==0.23.1", "transformers<5"],
    "trl": ["torch==2.13.0", "trl[peft]==1.16.0"],
}


def peer_python(name: str) -> str:
    """The interpreter of a peer's environment, which is made the first time."""
    folder = ENVIRONMENTS / name
    if not (folder / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        for requirement in (PEERS[name][:1], PEERS[name]):
            subprocess.run(
                [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirement], check=True
            )
        (folder / ".installed").touch()
    return str(folder / "bin" / "python")


def measure(python: str, script: str, *arguments: str) -> dict[str, Any]:
    """The JSON object on the last line that a script prints."""
    print(f"running {script} {' '.join(arguments[1:])}", file=sys.stderr)
    done = subprocess.run([python, str(HERE / script), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def generate(model: str, options: argparse.Namespace) -> None:
    """Sampling: tokens a second with 1, 8 and 32 sequences, 64 new tokens each."""
    arguments = (model, "--repeats", str(options.steps))
    peer = measure(peer_python("trl"), "generate_hf.py", *arguments)
    ours = measure(sys.executable, "generate_ours.py", *arguments)
    same = sum(a == b for a, b in zip(peer["greedy"], ours["greedy"], strict=True))
    print(f"greedy completions that are equal token for token: {same} of {len(peer['greedy'])}")
    print(f"{'sequences':>10}{'transformers':>14}{'Burnish':>10}{'faster':>9}   (tokens/s)")
    for rows, rate in peer["rates"].items():
        print(f"{rows:>10}{rate:14.1f}{ours['rates'][rows]:10.1f}{ours['rates'][rows] / rate:8.1f}x")
    print(f"peak GB: {peer['peak_gb']:.1f} and {ours['peak_gb']:.1f}")


def sft(model: str, options: argparse.Namespace) -> None:
    """Time and memory of an SFT step of 8 conversations, every weight trained and with LoRA."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = Path(scratch) / "rows.json"
        count = ["--count", str(8 * (options.steps + 2))]
        subprocess.run([sys.executable, str(HERE / "sft_rows.py"), model, str(rows), *count], check=True)
        print(f"{'':28}{'s/step':>9}{'faster':>9}{'peak GB':>9}{'memory':>9}{'tokens/step':>13}{'loss':>8}")
        for kind, flags in (("all weights", []), ("LoRA", ["--lora"])):
            peer = measure(peer_python("trl"), "sft_trl.py", model, str(rows), *flags)
            ours = measure(sys.executable, "sft_ours.py", model, str(rows), *flags)
            for name, row in (("TRL 1.16.0", peer), ("Burnish", ours)):
                faster, memory = peer["step_s"] / row["step_s"], row["peak_gb"] / peer["peak_gb"]
                print(
                    f"{f'{name}, {kind}':28}{row['step_s']:9.1f}{faster:8.1f}x{row['peak_gb']:9.1f}{memory:8.2f}x"
                    f"{row['tokens']:13d}{row['loss']:8.3f}"
                )


def ppo(model: str, options: argparse.Namespace) -> None:
    """Time and memory of a PPO step."""
    arguments = (model, "--steps", str(options.steps))
    rows = [
        ("TRL 0.23.1, four models", measure(peer_python("trl-ppo"), "ppo_trl.py", *arguments)),
        ("Burnish, roles: adapters", measure(sys.executable, "ppo_ours.py", *arguments)),
        ("Burnish, roles: copies", measure(sys.executable, "ppo_ours.py", *arguments, "--roles", "copies")),
    ]
    peer = rows[0][1]
    print(f"{'':28}{'s/step':>9}{'faster':>9}{'peak GB':>9}{'memory':>9}{'tokens/step':>13}")
    for name, row in rows:
        faster, memory = peer["step_s"] / row["step_s"], row["peak_gb"] / peer["peak_gb"]
        print(f"{name:28}{row['step_s']:9.1f}{faster:8.1f}x{row['peak_gb']:9.1f}{memory:8.2f}x{row['tokens']:13d}")


def reward(model: str, options: argparse.Namespace) -> None:
    """Held-out accuracy, time and memory of a reward model on Anthropic's HH, one pass, for each seed."""
    if options.data is None:
        raise SystemExit("reward needs --data: a file of HH transcripts, such as helpful.jsonl.gz, or a hub id")
    with tempfile.TemporaryDirectory() as scratch:
        pairs = Path(scratch) / "pairs.json"
        limits = ["--limit", str(options.limit)] if options.limit else []
        subprocess.run(
            [sys.executable, str(HERE / "hh_pairs.py"), model, options.data, str(pairs), *limits], check=True
        )
        rows = json.loads(pairs.read_text())
        heldout = rows["heldout"]
        groups = [row["prompt"] for row in heldout]
        lengths = [len(row["chosen_ids"]) - len(row["rejected_ids"]) for row in heldout]
        print(
            f"{len(rows['train'])} pairs to train on, {len(heldout)} held out; the longer answer wins in {_share(lengths, groups)}"
        )
        print(f"{'':22}{'accuracy':>22}{'train s':>9}{'faster':>9}{'peak GB':>9}{'steps':>7}{'first loss':>12}")
        for seed in range(options.seeds):
            arguments = (model, str(pairs), "--learning-rate", "5e-4", "--batch-size", "16", "--seed", str(seed))
            peer = measure(peer_python("trl"), "hh_trl.py", *arguments)
            ours = measure(sys.executable, "hh_ours.py", *arguments)
            for name, row in (("TRL 1.16.0", peer), ("Burnish", ours)):
                faster = peer["train_s"] / row["train_s"]
                print(
                    f"{f'{name}, seed {seed}':22}{_share(row['differences'], groups):>22}{row['train_s']:9.0f}{faster:8.1f}x"
                    f"{row['peak_gb']:9.1f}{row['steps']:7d}{row['first_loss']:12.3f}"
                )
            gain = paired_difference(_right(ours["differences"]), _right(peer["differences"]), groups=groups)
            print(f"  Burnish − TRL: {100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})")


def _right(differences: list[float]) -> np.ndarray:
    values = np.asarray(differences)
    return np.where(values == 0, 0.5, (values > 0).astype(float))


def _share(differences: list[float], groups: list[str]) -> str:
    share = bootstrap_share(_right(differences), groups=groups)
    return f"{100 * share.value:.1f} % ({100 * share.low:.0f} to {100 * share.high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="?", default="ppo", choices=["ppo", "reward", "generate", "sft"])
    parser.add_argument("--steps", type=int, default=3, help="steps that are timed")
    parser.add_argument("--data", help="reward: a file of HH transcripts, or a hub id")
    parser.add_argument("--limit", type=int, help="reward: pairs to train on")
    parser.add_argument("--seeds", type=int, default=1, help="reward: how many seeds")
    options = parser.parse_args()
    model, _ = resolve("smollm2-135m")
    {"ppo": ppo, "reward": reward, "generate": generate, "sft": sft}[options.workload](str(model), options)


if __name__ == "__main__":
    main()
