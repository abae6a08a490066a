"""`make bench`: run a workload with Burnish and with its peer, one after the other, and print one table."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from burnish.models.sources import resolve

HERE = Path(__file__).parent
ENVIRONMENTS = Path(".bench")
PEERS = {"trl-ppo": ["torch==2.13.0", "trl==0.23.1", "transformers<5"]}


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


def measure(python: str, script: str, *arguments: str) -> dict[str, object]:
    """The JSON object on the last line that a script prints."""
    done = subprocess.run([python, str(HERE / script), *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", nargs="?", default="ppo", choices=["ppo"])
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    model, _ = resolve("smollm2-135m")
    arguments = (str(model), "--steps", str(options.steps))
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


if __name__ == "__main__":
    main()
