"""Judges of a watch: what training does not use, asked of fresh answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from burnish.annotation.ai.judge import Judge, Tally, VerdictCache, principles_of
from burnish.annotation.snapshot import Entry
from burnish.config.shipped import located
from burnish.config.watch import (
    EndpointWatch,
    PeopleWatch,
    RewardWatch,
    TasteWatch,
    VerifierWatch,
    Watch,
)
from burnish.data.render import render_prompt
from burnish.models.backbone import Backbone
from burnish.models.weights import load_reward_model
from burnish.ranks import told
from burnish.records import Prompt, Rollout
from burnish.rewards.base import prompt_text
from burnish.rewards.model import ScopedModelReward
from burnish.rewards.scorer import check_prompts
from burnish.rewards.taste import taste_score
from burnish.stages.chat_of import chat_of
from burnish.stages.context import Step
from burnish.stages.rewards import build_scorer
from burnish.stages.sampling import end_tokens_of
from burnish.stages.watch_people import Heard, People

_MICRO_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class WatchJudge:
    """Who judges. `marks` are of answers, beside the starting policy's answers to the same prompts
    where it `compares`; None: there is none. Every rank asks for them, together. `people` say them
    later instead, and are asked by the first rank. `close` when done."""

    name: str
    marks: Callable[[Sequence[Rollout], Sequence[str]], Heard]
    compares: bool = False
    people: People | None = None
    close: Callable[[], None] = lambda: None


def watch_judge(
    step: Step, config: Watch, prompts: Sequence[Prompt], backbone: Backbone
) -> WatchJudge:
    """The judge that a watch names. Raises UserError where it cannot judge these prompts."""
    match config.judge:
        case TasteWatch():
            return _taste(step, prompts)
        case RewardWatch():
            return _reward_model(step, backbone)
        case EndpointWatch():
            return _endpoint(step, config.judge)
        case VerifierWatch():
            return _verifier(step, config.judge, prompts, backbone)
        case PeopleWatch():
            people = People(step, config.judge, prompts)
            name = f"people of the project {config.judge.project}"
            return WatchJudge(name, lambda *_: [], compares=True, people=people)


def _taste(step: Step, prompts: Sequence[Prompt]) -> WatchJudge:
    """The recipe's taste; relevance is to the prompt and not to the next of the list."""
    weights = step.recipe.taste.model_dump()
    asked = [prompt_text(prompt) for prompt in prompts]
    beside = {
        prompt.id: other
        for prompt, other in zip(prompts, [*asked[1:], *asked[:1]], strict=True)
        if len(prompts) > 1
    }

    def marks(rollouts: Sequence[Rollout], _beside: Sequence[str]) -> Heard:
        return [
            taste_score(
                weights,
                prompt_text(one.prompt),
                one.completion.text,
                beside=beside.get(one.prompt.id, ""),
            )
            for one in rollouts
        ]

    return WatchJudge("the gold taste", marks)


def _reward_model(step: Step, backbone: Backbone) -> WatchJudge:
    folder = Path(step.model("watch.judge.model"))
    view = load_reward_model(folder, partial(step.load, exact=True))
    own = view.backbone.tokenizer
    same = own.get_vocab() == backbone.tokenizer.get_vocab()
    ends = (*end_tokens_of(view.backbone), *(end_tokens_of(backbone) if same else ()))
    scorer = ScopedModelReward(
        view,
        scope="full",
        end_tokens=ends,
        max_tokens=_MICRO_BATCH_TOKENS,
        render=None
        if same
        else partial(render_prompt, own, max_tokens=step.recipe.model.max_length),
    )

    def marks(rollouts: Sequence[Rollout], _beside: Sequence[str]) -> Heard:
        return [one.value for one in scorer.score(rollouts)]

    return WatchJudge(f"the reward model {step.node.inputs['watch.judge.model'][0].shown}", marks)


def _endpoint(step: Step, config: EndpointWatch) -> WatchJudge:
    """Each answer beside the starting policy's to the same prompt, both ways round; what was said
    is kept, so that a run that starts again hears the same."""
    chat = chat_of(
        step, config.model, config.endpoint, slot="", max_length=0, logprobs=config.logprobs
    )
    named = config.constitution
    constitution = principles_of(None if named is None else str(located(Path(named).expanduser())))
    judge = Judge(chat, constitution, VerdictCache(step.folder / "watch" / "verdicts.jsonl"))

    def decide(pair: tuple[Rollout, str]) -> float | None:
        rollout, other = pair
        texts = (rollout.completion.text, other)
        if texts[0] == texts[1]:
            return 0.5
        entry = Entry(rollout.prompt.id, rollout.prompt, texts, (), "pairwise", "work", None)
        found = judge.preference(entry, 0, 1, Tally())
        return None if found is None else found[0]

    def marks(rollouts: Sequence[Rollout], beside: Sequence[str]) -> Heard:
        with ThreadPoolExecutor(config.parallel) as pool:
            return list(pool.map(decide, zip(rollouts, beside, strict=True)))

    once = lambda *pairs: told(lambda: marks(*pairs))  # noqa: E731
    return WatchJudge(chat.name, once, compares=True)


def _verifier(
    step: Step, config: VerifierWatch, prompts: Sequence[Prompt], backbone: Backbone
) -> WatchJudge:
    scorer = build_scorer(step, config.rewards, backbone=backbone)
    for source in scorer.sources:
        passed_over = check_prompts(source.part, source.reward, prompts, step.origins)
        if passed_over is not None:
            step.say_once(f"{step.name}, watch: {passed_over}")

    def marks(rollouts: Sequence[Rollout], _beside: Sequence[str]) -> Heard:
        return [one.value if one.counted else None for one in scorer.score(rollouts)]

    return WatchJudge(" and ".join(scorer.names), marks, close=scorer.close)
