"""Several reward models as one: the rule by hand, length taken out, averages of adapters, and
folders that score as what was saved."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from burnish.batch import Batch, TokenSequence
from burnish.config.sections import ComparedPasses, Optimizer
from burnish.errors import UserError
from burnish.models.adapters import LoraSpec, adapter_parameters, add_adapter, average_adapters
from burnish.models.backbone import Backbone, load_backbone
from burnish.models.ensemble import (
    RewardEnsemble,
    ScoreRule,
    combined,
    gain_of,
    scores_and_spread,
    without_length,
)
from burnish.models.heads import ScalarHead
from burnish.models.roles import View
from burnish.models.weights import (
    load_reward_adapter,
    load_reward_model,
    merged,
    save_members,
    save_reward_model,
)
from burnish.records import Comparison
from burnish.statistics.length_control import length_slope
from burnish.trainers.groups import RankedGroup
from burnish.trainers.reward_model import score_groups_and_spread

SPEC = LoraSpec(2, 4.0)
BATCH = Batch(
    (TokenSequence((3, 4), (5, 6, 7)), TokenSequence((3, 4), (9,)), TokenSequence((8,), (1, 2)))
)
SCORES = torch.tensor([[1.0, 4.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)


def _members(backbone: Backbone, count: int = 2, spec: LoraSpec = SPEC) -> list[View]:
    backbone.freeze()
    views = []
    for number in range(count):
        name = f"member_{number:02d}"
        add_adapter(backbone, name, spec, seed=number)
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in adapter_parameters(backbone, name).values():
                parameter.normal_(0.0, 0.2, generator=generator)
        views.append(View(backbone, name, spec, ScalarHead(backbone.width, seed=number)))
    return views


def test_the_rules_by_hand():
    lengths = torch.tensor([2, 1, 0])
    rule = ScoreRule("mean", (1.0, 0.5))
    less = without_length(SCORES, lengths, rule)
    assert less.tolist() == [[-1.0, 3.0, 0.0], [2.0, -0.5, 0.0]]
    assert combined(less, rule).tolist() == [0.5, 1.25, 0.0]
    assert combined(less, ScoreRule("min", (1.0, 0.5))).tolist() == [-1.0, -0.5, 0.0]
    spread = [1.5, 1.75, 0.0]  # half the distance of two
    minus = combined(less, ScoreRule("mean-sd", (1.0, 0.5), sd_weight=2.0))
    assert minus.tolist() == pytest.approx([0.5 - 2 * 1.5, 1.25 - 2 * 1.75, 0.0])
    assert less.std(dim=0, correction=0).tolist() == pytest.approx(spread)
    with pytest.raises(ValueError, match="no rule"):
        ScoreRule("least", (1.0,))  # type: ignore[arg-type]


def test_the_length_slope_is_that_within_prompts():
    """Prompt a: lengths 1, 3, scores 1, 2: half a point a token. Prompt b: 2, 6 and 10, 12: the
    same. Across prompts the longer ones score much more, which does not count."""
    found = length_slope([1.0, 2.0, 10.0, 12.0], [1, 3, 2, 6], groups=["a", "a", "b", "b"])
    assert found == pytest.approx((0.5 * 2 * 1 + 1.0 * 2 * 2) / (2 * 1 + 2 * 4))
    assert found == pytest.approx(0.5)
    assert length_slope([1.0, 5.0], [3, 4], groups=["a", "b"]) == 0.0


def test_scores_of_members_are_combined_less_their_length(tiny: Backbone):
    views = _members(tiny)
    rule = ScoreRule("min", (0.1, 0.2), gain=2.0, bias=0.5)
    scores_N, spread_N = scores_and_spread(RewardEnsemble(tuple(views), rule), BATCH)
    first_N, second_N = (view.scores(BATCH) for view in views)
    lengths_N = torch.tensor([3.0, 1.0, 2.0])
    a_N, b_N = first_N - 0.1 * lengths_N, second_N - 0.2 * lengths_N
    torch.testing.assert_close(scores_N, 2.0 * torch.minimum(a_N, b_N) + 0.5)
    assert spread_N is not None
    torch.testing.assert_close(spread_N, (a_N - b_N).abs() / 2)
    groups = [
        RankedGroup(BATCH.sequences[:2], (Comparison(0, 1, 1.0),)),
        RankedGroup(BATCH.sequences[2:], (), labels=(0.5,)),
    ]
    in_pieces = ComparedPasses(optimizer=Optimizer(micro_batch_tokens=8))
    both = score_groups_and_spread(RewardEnsemble(tuple(views), rule), groups, config=in_pieces)
    torch.testing.assert_close(both, (scores_N, spread_N))
    alone = RewardEnsemble((views[0],), ScoreRule("mean", (0.1,)))
    scores_N, spread = scores_and_spread(alone, BATCH)
    torch.testing.assert_close(scores_N, a_N)
    assert spread is None
    for view, gain in zip(views, (2.0, 4.0), strict=True):
        assert view.head is not None
        view.head.gain.fill_(gain)
    assert gain_of(RewardEnsemble(tuple(views), rule)) == pytest.approx(2.0 * 3.0)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SPEC, LoraSpec(6, 12.0)),
        (
            LoraSpec(2, 4.0, ("q_proj",), rslora=True),
            LoraSpec(6, 4.0 * 3**0.5, ("q_proj",), rslora=True),
        ),
    ],
)
def test_the_average_of_adapters_is_that_of_the_weights(
    tiny: Backbone, spec: LoraSpec, expected: LoraSpec
):
    views = _members(tiny, 3, spec)
    spec = average_adapters(tiny, [str(view.adapter) for view in views], "average", spec)
    assert spec == expected
    one = dict(merged(View(tiny, "average", spec)))
    others = [dict(merged(view)) for view in views]
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, sum(w[name] for w in others) / 3)


def test_a_folder_scores_as_what_was_saved_wherever_the_run_is(tiny: Backbone, tmp_path: Path):
    views = _members(tiny)
    rule = ScoreRule("mean-sd", (0.1, 0.2), 0.7, 2.0, 0.5)
    folder = tmp_path / "run" / "reward" / "model"
    folder.mkdir(parents=True)
    save_reward_model(views[0], folder, base="tiny")
    save_members(views, folder, place=folder, base="tiny", rule=rule)
    expected_N = RewardEnsemble(tuple(views), rule).scores(BATCH)
    loaded = load_reward_model(folder, _load)
    assert isinstance(loaded, RewardEnsemble)
    assert loaded.rule == rule
    # one backbone holds both
    assert loaded.views[0].backbone is loaded.views[1].backbone
    torch.testing.assert_close(loaded.scores(BATCH), expected_N)
    beside = load_reward_adapter(load_backbone("tiny"), folder, name="judge")
    torch.testing.assert_close(beside.scores(BATCH), expected_N)
    (folder / "scoring.json").write_text('{"rule": {"combine": "most"}}')
    with pytest.raises(UserError, match="does not say how scores are combined"):
        load_reward_model(folder, _load)


def _load(reference: str, /, *, scalar_head: bool = False) -> Backbone:
    return partial(load_backbone, scalar_head=scalar_head)(reference)
