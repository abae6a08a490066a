"""fp32 products stay fp32 whichever library makes them, and packed attention is attention."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from burnish.batch import Segment
from burnish.models import matmul, processor
from burnish.models.packed_attention import packed_attention

# A prompt of 5 tokens with two continuations, then a sequence of its own.
SEGMENTS = (Segment(0, 5), Segment(5, 9, parent=0), Segment(9, 12, parent=0), Segment(12, 18))


@pytest.fixture
def switch() -> Iterator[object]:
    settings = torch.backends.mkldnn.matmul
    before = settings.fp32_precision
    matmul.use_fast_exact_matmul.cache_clear()
    yield settings
    settings.fp32_precision = before
    matmul.use_fast_exact_matmul.cache_clear()


def test_the_faster_library_is_as_exact(switch, monkeypatch: pytest.MonkeyPatch):
    switch.fp32_precision = "none"
    monkeypatch.setattr(matmul, "vendor", lambda: "AuthenticAMD")
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(300, 576, generator=generator), torch.randn(576, 960, generator=generator)
    exact = a.double() @ b.double()
    plain = float((a @ b - exact).abs().max())
    chosen = matmul.use_fast_exact_matmul()
    assert switch.fp32_precision == ("bf16" if chosen else "none")
    assert float((a @ b - exact).abs().max()) < 8 * plain
    with matmul.small_products():
        assert switch.fp32_precision == "none"
    assert switch.fp32_precision == ("bf16" if chosen else "none")


def test_rounding_to_bfloat16_is_refused(switch, monkeypatch: pytest.MonkeyPatch):
    """A machine whose oneDNN does round: the switch goes back."""
    product = torch.Tensor.__matmul__

    def rounding(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype == torch.float32 and switch.fp32_precision == "bf16":
            a, b = a.bfloat16().float(), b.bfloat16().float()
        return product(a, b)

    switch.fp32_precision = "none"
    monkeypatch.setattr(matmul, "vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.Tensor, "__matmul__", rounding)
    assert not matmul.use_fast_exact_matmul()
    assert switch.fp32_precision == "none"


def test_an_intel_processor_keeps_its_own_library(switch, monkeypatch: pytest.MonkeyPatch):
    switch.fp32_precision = "none"
    monkeypatch.setattr(matmul, "vendor", lambda: "GenuineIntel")
    assert not matmul.use_fast_exact_matmul()
    assert switch.fp32_precision == "none"


def test_what_the_processor_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said = (
        "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu avx512_vnni\n\nprocessor\t:"
        " 1\nvendor_id\t: other\n"
    )
    (tmp_path / "cpuinfo").write_text(said)
    monkeypatch.setattr(processor, "_INFO", tmp_path / "cpuinfo")
    assert (processor.vendor(), processor.flags()) == ("GenuineIntel", {"fpu", "avx512_vnni"})
    monkeypatch.setattr(processor, "_INFO", tmp_path / "none")
    assert (processor.vendor(), processor.flags()) == ("", set())


def test_a_precision_chosen_by_the_user_is_left_alone(switch):
    switch.fp32_precision = "ieee"
    assert not matmul.use_fast_exact_matmul()
    assert switch.fp32_precision == "ieee"
    with matmul.small_products():
        assert switch.fp32_precision == "ieee"


def _dense(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The oracle: one attention over everything, under a mask made token by token."""
    owner = [number for number, s in enumerate(SEGMENTS) for _ in range(s.start, s.stop)]
    seen = torch.tensor(
        [
            [
                (owner[j] == owner[i] and j <= i) or owner[j] == SEGMENTS[owner[i]].parent
                for j in range(18)
            ]
            for i in range(18)
        ]
    )
    key, value = (x.repeat_interleave(query.shape[1] // key.shape[1], dim=1) for x in (key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2)


def _inputs() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, heads, 18, 8, generator=generator, dtype=torch.float64, requires_grad=True)
        for heads in (4, 2, 2)
    ]


def test_packed_attention_and_its_gradients_equal_dense_attention():
    ours, theirs = _inputs(), _inputs()
    found, _ = packed_attention(torch.nn.Module(), *ours, None, segments=SEGMENTS)
    expected = _dense(*theirs)
    torch.testing.assert_close(found, expected)
    weight = torch.randn(
        found.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_packed_attention_passes_gradcheck():
    assert torch.autograd.gradcheck(
        lambda *x: packed_attention(torch.nn.Module(), *x, None, segments=SEGMENTS, scaling=0.5)[0],
        _inputs(),
    )


def test_attention_off_the_cpu_path_is_the_same():
    """Dropout goes through torch's own autograd; at a probability next to nothing it drops
    nothing."""
    inputs = _inputs()
    fast, _ = packed_attention(torch.nn.Module(), *inputs, None, segments=SEGMENTS)
    slow, _ = packed_attention(torch.nn.Module(), *inputs, None, segments=SEGMENTS, dropout=1e-12)
    torch.testing.assert_close(fast, slow)
