"""Two tables about preference optimisation, each from runs that anyone can repeat (and interrupt:
what is done is not done again).

    .venv/bin/python benchmarks/preferences.py losses --data helpful.jsonl.gz --out runs/losses
    .venv/bin/python benchmarks/preferences.py noise --out runs/noise

`losses`: every loss at one budget on HH's pairs. A third of the prompts trains a reward model and
nothing else; it judges the policies. `noise`: the quickstart's answers with labels of a simulated
panel that is wrong with a given probability; hard majority labels against soft labels and losses
that expect noise; the gold taste, which no training sees, judges.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from scipy import stats
from transformers import AutoTokenizer

import burnish
from burnish.algorithms.preference_losses import LOSSES
from burnish.config.making import Taste
from burnish.config.recipe import Recipe
from burnish.config.schema import Model
from burnish.config.sections import Sampling
from burnish.data.feedback import paired_rows, preference_groups
from burnish.data.render import render_each, render_response
from burnish.data.sources import read_rows
from burnish.evaluation.summary import compare
from burnish.evaluation.words import estimate
from burnish.models.sources import resolve
from burnish.records import Comparison, PreferenceGroup
from burnish.rewards.base import prompt_text
from burnish.rewards.taste import taste_score
from burnish.stages.artifacts import read_answers

LEARN = "learn"
"""The stage that is compared; its kind is the preference family's, whatever the loss."""
# Name, settings of that stage. `{error}` is the probability that a majority of the panel is wrong.
WAYS: dict[str, tuple[str, ...]] = {
    "dpo, hard majority": ("learn.loss.name=dpo", "learn.soft_labels=false"),
    "dpo, soft labels": ("learn.loss.name=dpo",),
    "dpo, soft, weighted by strength": ("learn.loss.name=dpo", "learn.weight_by_strength=true"),
    "conservative dpo, hard": (
        "learn.loss.name=cdpo", "learn.loss.label_smoothing={error}", "learn.soft_labels=false",
    ),
    "robust dpo, hard": (
        "learn.loss.name=rdpo", "learn.loss.label_noise={error}", "learn.soft_labels=false",
    ),
    "ipo, soft": ("learn.loss.name=ipo",),
    "kto, soft": ("learn.loss.name=kto",),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["losses", "noise"])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--data", help="losses: HH's pairs")
    parser.add_argument("--pairs", type=int, default=600, help="losses: pairs to train on")
    parser.add_argument(
        "--judge-pairs",
        type=int,
        default=600,
        help="losses: pairs of other prompts that train the reward model",
    )
    parser.add_argument(
        "--heldout", type=int, default=150, help="losses: prompts whose pairs are held out"
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=320,
        help="losses: of a prompt and an answer; longer pairs are not taken",
    )
    parser.add_argument("--losses", nargs="*", default=list(LOSSES))
    parser.add_argument("--noise", type=float, nargs="*", default=[0.25, 0.4])
    parser.add_argument("--annotators", type=int, default=3, help="noise: votes on each pair")
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for every run"
    )
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    {"losses": losses, "noise": noise}[options.what](options)


def losses(options: argparse.Namespace) -> None:
    """Held-out accuracy, win rate over the base model under the disjoint reward model, length, KL:
    a row for each loss."""
    if options.data is None:
        raise SystemExit("--data names HH's pairs (helpful.jsonl.gz)")
    groups = _short(preference_groups(read_rows(options.data)).items, max_tokens=options.max_tokens)
    judged = [g for g in groups if _third(g) == 0]
    learnt = [g for g in groups if _third(g) != 0]
    heldout = options.heldout / (options.heldout + options.pairs)
    judge_data = _write_pairs(
        options.out / "judge.jsonl", judged[: round(options.judge_pairs / (1 - heldout))]
    )
    data = _write_pairs(options.out / "pairs.jsonl", learnt[: options.pairs + options.heldout])
    common = (
        f"model.max_length={options.max_tokens + Sampling().max_new_tokens}",
        "data.demonstrations=null",
        "data.prompts=null",
        f"data.heldout={heldout:.4f}",
    )
    judge = options.out / "judge"
    burnish.run(
        _recipe(options, {"reward": "{batch_size: 16}"}, *common, f"data.comparisons={judge_data}"),
        out=judge,
        say=print,
    )
    rows = []
    for loss in options.losses:
        for seed in range(options.seeds):
            out = options.out / f"{loss}-{seed}"
            chosen = (
                f"learn.loss.name={loss}", f"data.comparisons={data}", f"seed={seed}",
                f"evaluate.reward={judge / 'reward' / 'model'}",
            )  # fmt: skip
            burnish.run(_recipe(options, _LEARN, *common, *chosen), out=out, say=print)
            found = _result(out)
            model = next(m for m in found["evaluate"]["models"] if m["name"] == LEARN)
            rate = compare(found, LEARN, "base", "reward model")
            rows.append(
                {
                    "loss": loss, "seed": seed, "before": _accuracy_before(out),
                    "accuracy": found[LEARN]["accuracy"],
                    "win rate": None if rate is None else {"value": rate.value, "low": rate.low,
                        "high": rate.high},
                    "words": model["length"], "kl": model["kl_ref"],
                    "falls": found[LEARN]["chosen_falls"],
                    "seconds": json.loads((out / LEARN / "stage.json").read_text())["seconds"],
                }
            )  # fmt: skip
            _table(
                options.out,
                rows,
                by="loss",
                shown=("before", "accuracy", "win rate", "words", "kl", "falls", "seconds"),
            )


def noise(options: argparse.Namespace) -> None:
    """Win rate over the SFT model under the gold taste: a row for each way of learning and each
    noise."""
    base, rows = options.out / "base", []
    burnish.run(
        _recipe(
            options,
            {"sft": "{epochs: 1.5, batch_size: 16}", "sample": "{count: 288}"},
            *_QUICKSTART,
        ),
        out=base,
        say=print,
    )
    for seed in range(options.seeds):
        for level in options.noise:
            data = options.out / f"pairs-{level}-{seed}.jsonl"
            wrong = _noisy_pairs(base, data, noise=level, annotators=options.annotators, seed=seed)
            for way in options.ways:
                changes = [change.format(error=min(0.49, wrong)) for change in WAYS[way]]
                out = options.out / f"{way.replace(', ', '-').replace(' ', '_')}-{level}-{seed}"
                sft = base / "sft" / "model"
                settings = (
                    f"data.comparisons={data}", f"learn.start={sft}", f"seed={seed}",
                    f"evaluate.models=[{sft}, {LEARN}]", f"evaluate.reference={sft}",
                )  # fmt: skip
                burnish.run(
                    _recipe(options, _LEARN, *_QUICKSTART, *settings, *changes), out=out, say=print
                )
                found = _result(out)
                rate = compare(found, LEARN, str(sft), "gold")
                rows.append(
                    {
                        "way": f"{way}, noise {level:g}",
                        "seed": seed,
                        "labels wrong": wrong,
                        "win rate": None
                        if rate is None
                        else {"value": rate.value, "low": rate.low, "high": rate.high},
                        "accuracy": found[LEARN]["accuracy"],
                        "kl": next(m for m in found["evaluate"]["models"] if m["name"] == LEARN)[
                            "kl_ref"
                        ],
                    }
                )
                _table(
                    options.out,
                    rows,
                    by="way",
                    shown=("win rate", "accuracy", "kl", "labels wrong"),
                )
    for level in options.noise:
        for way in options.ways[1:]:
            print(
                _difference(rows, f"{way}, noise {level:g}", f"{options.ways[0]}, noise {level:g}")
            )


# At temperature 1, so that the KL is known; by the taste too, which made the labels of `noise`.
_LEARN = {
    LEARN: "{kind: preference, eval_every: 100000}",
    "evaluate": "{taste: true, sampling: {temperature: 1, top_p: 1}}",
}
_STAGES = ("sft", "sample", "reward", *_LEARN)
_QUICKSTART = (
    "model.max_length=256",
    "data.demonstrations=builtin:quickstart/demonstrations",
    "data.prompts=builtin:quickstart/prompts",
    "data.heldout=0.15",
)


def _noisy_pairs(base: Path, out: Path, *, noise: float, annotators: int, seed: int) -> float:
    """The best and the worst answer to each prompt, as the gold taste has it, in random order, and
    the share of `annotators` who prefer the first, each wrong with probability `noise`.

    Returns the share of pairs whose majority is wrong; half of the exact ties count.
    """
    rng = random.Random(f"{seed}/{noise}")
    weights = Taste().model_dump()
    groups, wrong = [], 0.0
    for answered in read_answers(base / "sample"):
        texts = sorted(set(answered.responses))
        if len(texts) < 2:
            continue
        tastes = {text: taste_score(weights, prompt_text(answered.prompt), text) for text in texts}
        pair = [min(texts, key=tastes.__getitem__), max(texts, key=tastes.__getitem__)]
        rng.shuffle(pair)
        scores = [tastes[text] for text in pair]
        if scores[0] == scores[1]:
            continue
        better = scores[0] > scores[1]
        votes = [better != (rng.random() < noise) for _ in range(annotators)]
        share = sum(votes) / annotators
        wrong += 0.5 if share == 0.5 else float((share > 0.5) != better)
        groups.append(PreferenceGroup(answered.prompt, tuple(pair), (Comparison(0, 1, share),)))
    _write_pairs(out, groups)
    return wrong / len(groups)


def _write_pairs(path: Path, groups: Sequence[PreferenceGroup]) -> Path:
    from collections import Counter

    text = "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for row in paired_rows(groups, dropped=Counter())
    )
    if not path.is_file() or path.read_text() != text:
        path.write_text(text)
    return path


def _short(groups: Sequence[PreferenceGroup], *, max_tokens: int) -> list[PreferenceGroup]:
    """The groups whose answers, each with its prompt, are at most `max_tokens` long."""
    tokenizer = AutoTokenizer.from_pretrained(resolve(Model().name).folder)

    def render(group: PreferenceGroup) -> PreferenceGroup:
        for answer in group.responses:
            render_response(tokenizer, group.prompt, answer, max_tokens=max_tokens)
        return group

    return [group for group, _ in render_each(groups, render, too_long="drop").items]


def _third(group: PreferenceGroup) -> int:
    opening = next(m["content"] for m in group.prompt.messages if m["role"] == "user")
    return int.from_bytes(blake2b(opening.encode(), digest_size=4).digest(), "big") % 3


def _recipe(options: argparse.Namespace, stages: Mapping[str, str], *settings: str) -> Recipe:
    """These stages with these settings, and what `--set` says besides of this run; it may name
    stages of the other runs too."""
    given = [
        change
        for change in options.set
        if change.partition(".")[0] not in set(_STAGES) - set(stages)
    ]
    return burnish.load(
        None, *(f"stages.{name}={own}" for name, own in stages.items()), *settings, *given
    )


def _result(folder: Path) -> dict[str, Any]:
    return {
        stage: json.loads((folder / stage / "result.json").read_text())
        for stage in (LEARN, "evaluate")
    }


def _accuracy_before(folder: Path) -> float:
    """Held-out accuracy before the first step: without a reference it is that of the model's own
    likelihoods, not a coin's."""
    first = (folder / LEARN / "metrics.jsonl").read_text().splitlines()[0]
    return float(json.loads(first)["eval_rewards/accuracies_before"])


def _table(out: Path, rows: Sequence[dict[str, Any]], *, by: str, shown: Sequence[str]) -> None:
    """One line for each value of `by`: the mean over its runs with its interval over seeds; of a
    single run its own interval."""
    (out / "rows.json").write_text(json.dumps(rows, indent=1))
    lines = ["| " + " | ".join((by, "runs", *shown)) + " |", "|" + "---|" * (len(shown) + 2)]
    for value in dict.fromkeys(row[by] for row in rows):
        own = [row for row in rows if row[by] == value]
        lines.append(
            "| "
            + " | ".join(
                (value, str(len(own)), *(_cell([row[name] for row in own]) for name in shown))
            )
            + " |"
        )
    text = "\n".join(lines)
    (out / "table.md").write_text(text + "\n")
    print(text, flush=True)


def _difference(rows: Sequence[dict[str, Any]], way: str, other: str) -> str:
    """The mean difference in win rate between runs of the same seed and labels, in points."""
    rates = {(row["way"], row["seed"]): row["win rate"]["value"] for row in rows}
    gaps = [
        100 * (rates[way, seed] - rates[other, seed])
        for seed in dict.fromkeys(row["seed"] for row in rows)
    ]
    return f"{way} − {other}, points: {_over_seeds(gaps, digits=1)}"


def _over_seeds(values: Sequence[float], *, digits: int) -> str:
    """The mean, and of several its 95 % interval by Student's t: what another choice of seeds may
    give."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.{digits}f} ({mean - half:.{digits}f} to {mean + half:.{digits}f})"


def _cell(values: Sequence[Any]) -> str:
    found = [(estimate(v), v) for v in values if v is not None]
    numbers = [e.value if e is not None else float(v) for e, v in found]
    if not numbers:
        return ""
    only = found[0][0]
    if len(numbers) == 1 and only is not None and only.low is not None:
        return f"{only.value:.3f} ({only.low:.3f} to {only.high:.3f})"
    return _over_seeds(numbers, digits=3)


if __name__ == "__main__":
    main()
