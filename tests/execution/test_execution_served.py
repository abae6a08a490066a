"""Publishing, the engine behind orders, and the probe: with engines in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from burnish.errors import UserError
from burnish.execution.orders import Event, Generate, Load, Loaded, Order, Started, Written
from burnish.execution.pool import Patience, Pool
from burnish.execution.probe import SAMPLES, ByEngine, GapProbe
from burnish.execution.publish import Publisher, Reader, Unreadable
from burnish.execution.served import ProbedSampler, ServedEngine
from burnish.execution.server import EngineServer, EngineSpec
from burnish.execution.threaded import ThreadedFleet
from burnish.generation.base import Request, SamplingParams, request_seed
from burnish.generation.native import NativeEngine
from burnish.generation.sampled_model import SampledModel
from burnish.models.adapters import LoraSpec, add_adapter
from burnish.models.backbone import Backbone
from burnish.models.roles import View
from burnish.models.weights import merge_on_demand
from burnish.records import Prompt, Rollout

END = frozenset({256})
REQUESTS = [Request(tuple([258, *range(40, 43 + k % 5)]), request_seed(k)) for k in range(12)]
PARAMS = SamplingParams(8)


class InProcess:
    """A line to an engine in this process. `spoil` changes an answer before it is given."""

    def __init__(self, spec: EngineSpec, spoil: Callable[[Event], Event]) -> None:
        self._server, self._spoil = EngineServer(spec), spoil

    def started(self) -> Event:
        return Started()

    def ask(self, order: Order) -> Event:
        return self._spoil(self._server.answer(order))

    def end(self) -> None:
        pass

    def last_words(self, error: Exception) -> str:
        return repr(error)


def _spec(backbone: Backbone) -> EngineSpec:
    return EngineSpec(SampledModel.of(backbone), END, "cpu", torch.get_num_threads())


def _served(
    view: View,
    folder: Path,
    *,
    engines: int = 2,
    rows: list[dict] | None = None,
    spoil: Callable[[Event], Event] = lambda event: event,
    line: type[InProcess] = InProcess,
) -> ServedEngine:
    spec = _spec(view.backbone)
    pool = Pool(
        ThreadedFleet(lambda _: line(spec, spoil)),
        engines=engines,
        patience=Patience(60.0, 60.0, 60.0),
        restarts=0,
    )
    record = [].append if rows is None else rows.append
    return ServedEngine(pool, Publisher(folder / "published"), record=record)


def _adapted(tiny: Backbone) -> View:
    tiny.freeze()
    add_adapter(tiny, "policy", LoraSpec(4, 8.0), seed=0)
    return View(tiny, "policy", LoraSpec(4, 8.0))


def _move(view: View, *, std: float = 0.2) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in view.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=std, generator=generator)


# --- publishing ---


def test_every_tensor_arrives_bit_for_bit_with_its_checksum(tiny: Backbone, tmp_path: Path):
    view = _adapted(tiny)
    _move(view)
    publication = Publisher(tmp_path / "p").publish(merge_on_demand(view), version=4)
    reader = Reader(publication, torch.device("cpu"))
    read = {name: make() for name, make in reader.weights.items()}
    expected = {name: make() for name, make in merge_on_demand(view).items()}
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], expected[name]) for name in read)
    assert reader.checksum == publication.checksum
    # weights that move get another checksum
    _move(view, std=0.3)
    later = Publisher(tmp_path / "q").publish(merge_on_demand(view), version=4)
    assert later.checksum != publication.checksum


def test_a_tensor_with_other_bytes_or_left_out_is_told(tiny: Backbone, tmp_path: Path):
    publication = Publisher(tmp_path / "p").publish(merge_on_demand(View(tiny)), version=0)
    reader = Reader(publication, torch.device("cpu"))
    names = list(reader.weights)
    for name in names[:-1]:
        reader.weights[name]()
    with pytest.raises(Unreadable, match=f"{names[-1]} was published and not taken over"):
        _ = reader.checksum
    file = next(Path(publication.folder).glob("*.safetensors"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(Unreadable, match="other bytes"):
        [make() for make in Reader(publication, torch.device("cpu")).weights.values()]


def test_two_versions_are_kept_and_what_was_there_before_goes(tiny: Backbone, tmp_path: Path):
    (tmp_path / "p" / "version-99").mkdir(parents=True)
    publisher = Publisher(tmp_path / "p")
    for version in range(4):
        publisher.publish(merge_on_demand(View(tiny)), version=version)
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == ["version-2", "version-3"]
    publisher.close()
    assert not (tmp_path / "p").exists()


# --- the engine behind orders ---


def test_an_engine_elsewhere_writes_what_one_here_writes(tiny: Backbone, tmp_path: Path):
    view, rows = _adapted(tiny), []
    here = NativeEngine.of(view, end_tokens=END)
    served = _served(view, tmp_path, engines=1, rows=rows)
    for version in range(3):
        _move(view, std=0.1 * version)
        here.load(merge_on_demand(view), version=version)
        served.load(merge_on_demand(view), version=version)
        assert served.generate(REQUESTS, PARAMS) == here.generate(REQUESTS, PARAMS)
        served.saw(GapProbe(view, limit=None).check(served.unseen(), version=version))
        assert served.unseen() == {}
        served.sleep()
    with pytest.raises(RuntimeError, match="sleeps"):
        served.generate(REQUESTS, PARAMS)
    served.close()
    assert [(row["version"], row["restarted"]) for row in rows] == [(0, 0), (1, 0), (2, 0)]
    assert all(row["gap"] < 1e-4 and row["tokens"] for row in rows)
    json.dumps(rows)


def test_two_engines_write_the_tokens_of_one(tiny: Backbone, tmp_path: Path):
    served = _served(View(tiny), tmp_path)
    served.load(merge_on_demand(View(tiny)), version=0)
    here = NativeEngine.of(View(tiny), end_tokens=END).generate(REQUESTS, PARAMS)
    written = served.generate(REQUESTS, PARAMS)
    served.close()
    assert [c.tokens for c in written] == [c.tokens for c in here]


def test_logits_that_are_no_numbers_are_the_same_error_as_here(tiny: Backbone, tmp_path: Path):
    served = _served(View(tiny), tmp_path)
    with torch.no_grad():
        tiny.model.model.norm.weight.fill_(float("nan"))
    served.load(merge_on_demand(View(tiny)), version=0)
    with pytest.raises(UserError, match="no finite numbers"):
        served.generate(REQUESTS, PARAMS)


# --- the probe ---


class Stale(InProcess):
    """It says that it holds the new weights, checksum and all, and samples its first."""

    def ask(self, order: Order) -> Event:
        engine = self._server._engine
        if isinstance(order, Load) and engine is not None:
            engine.version = order.publication.version
            return Loaded(order.publication.version, order.publication.checksum)
        return super().ask(order)


class _Asks:
    """A sampler whose rollouts nobody reads."""

    def __init__(self, served: ServedEngine) -> None:
        self._served = served

    def load(self, view: View, *, version: int) -> None:
        self._served.load(merge_on_demand(view), version=version)

    def sleep(self) -> None:
        self._served.sleep()

    def generate(self, prompts: Sequence[Prompt], *, samples: int, round: int) -> list[Rollout]:
        self._served.generate(REQUESTS, PARAMS)
        return []


def _ask(sampler: ProbedSampler) -> None:
    sampler.generate([], samples=1, round=0)


def test_an_engine_with_old_weights_is_named_and_stops_the_run(tiny: Backbone, tmp_path: Path):
    view = _adapted(tiny)
    served = _served(view, tmp_path, engines=1, line=Stale)
    sampler = ProbedSampler(_Asks(served), served, GapProbe(view, limit=None))
    sampler.load(view, version=0)
    _ask(sampler)
    sampler.sleep()
    _move(view)
    sampler.load(view, version=1)
    match = r"engine 1 does not sample.*with version 1.*at most 0\.001"
    with pytest.raises(UserError, match=match):
        _ask(sampler)


def test_engines_are_looked_at_once_a_version(
    tiny: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    view, rows, looked = View(tiny), [], []
    served = _served(view, tmp_path, rows=rows)
    probe = GapProbe(view, limit=None)
    check = GapProbe.check

    def counted(self: GapProbe, written: ByEngine, *, version: int) -> float:
        looked.append((version, sorted(written), {len(pairs) for pairs in written.values()}))
        return check(self, written, version=version)

    monkeypatch.setattr(GapProbe, "check", counted)
    sampler = ProbedSampler(_Asks(served), served, probe)
    for version in range(2):
        sampler.load(view, version=version)
        _ask(sampler)
        _ask(sampler)
        sampler.sleep()
    served.close()
    both = ["engine 1", "engine 2"]
    assert looked == [(0, both, {SAMPLES}), (1, both, {SAMPLES})]
    assert [row["version"] for row in rows] == [0, 1]
    assert all(row["gap"] < 1e-4 for row in rows)


def test_completions_of_another_version_stop_the_run(tiny: Backbone, tmp_path: Path):
    def spoil(event: Event) -> Event:
        if isinstance(event, Written):
            return Written(event.number, event.version - 1, event.completions)
        return event

    served = _served(View(tiny), tmp_path, spoil=spoil)
    served.load(merge_on_demand(View(tiny)), version=3)
    with pytest.raises(UserError, match="wrote with version 2 of the weights, and version 3"):
        served.generate(REQUESTS, PARAMS)


def test_the_probe_has_the_gap_by_hand(tiny: Backbone):
    (completion,) = NativeEngine.of(View(tiny), end_tokens=END).generate(REQUESTS[:1], PARAMS)
    moved = type(completion)(
        completion.text, completion.tokens, completion.sampler_logprobs, completion.finish_reason,
        tuple(x - 0.25 for x in completion.model_logprobs),
    )  # fmt: skip
    probe = GapProbe(View(tiny), limit=0.3)
    pairs = {"good": [(REQUESTS[0], completion)], "bad": [(REQUESTS[0], moved)]}
    assert probe.check(pairs, version=0) == pytest.approx(0.25, abs=1e-4)
    with pytest.raises(UserError, match=r"^field \"scale.stop_at_gap\": bad does not sample"):
        GapProbe(View(tiny), limit=0.2).check(pairs, version=0)


def test_orders_are_data(tiny: Backbone, tmp_path: Path):
    """What goes to an engine has no live model in it: it is pickled and works elsewhere."""
    import pickle

    publication = Publisher(tmp_path / "p").publish(merge_on_demand(View(tiny)), version=0)
    server = EngineServer(pickle.loads(pickle.dumps(_spec(tiny))))
    orders = pickle.loads(pickle.dumps([Load(publication), Generate(1, tuple(REQUESTS), PARAMS)]))
    told, written = map(server.answer, orders)
    assert told.checksum == publication.checksum
    assert pickle.loads(pickle.dumps(written)) == written
    assert len(pickle.dumps(_spec(tiny))) < sum(p.nbytes for p in tiny.model.parameters()) + 200_000
