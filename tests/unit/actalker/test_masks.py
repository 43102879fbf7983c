"""Control masks: what they select, how they are built for each gate setting, and how they batch."""

from __future__ import annotations

import pytest
import torch

from actalker.attention import Context
from actalker.control import ControlConfig, ParallelControl
from actalker.masks import ControlMask, ControlMasks, box_mask, control_masks, mouth_box
from actalker.transformer import Conditioning, SpatioTemporalTransformer, TimeMixer

LIKE = torch.zeros(1)


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_a_cell_is_selected_when_its_central_pixels_are_inside(stride):
    """A mask edge through the centre of a cell: selected from the half-way pixel on, not before."""
    side, edge_cell = 6 * stride, 2
    for shift, selected in ((stride // 2 - 1, True), (stride // 2, False)):
        mask = torch.zeros(1, 1, side, side)
        mask[..., edge_cell * stride + shift :, :] = 1
        index = ControlMask(mask).level((6, 6), 1, 1, LIKE).index[0]
        assert (edge_cell * 6 in index.tolist()) is selected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_ones_select_every_cell(dtype):
    level = ControlMask(torch.ones(1, 1, 72, 128, dtype=dtype)).level((9, 16), 1, 4, LIKE)
    assert level.full and not level.empty and level.weight is None
    assert level.index.tolist() == [list(range(144))]


def test_zeros_select_nothing():
    level = ControlMask(torch.zeros(1, 1, 64, 64)).level((8, 8), 1, 4, LIKE)
    assert level.empty and level.index.shape == (1, 0)


def test_levels_are_computed_once():
    mask = ControlMask(torch.ones(1, 1, 64, 64))
    assert mask.level((8, 8), 2, 4, LIKE) is mask.level((8, 8), 2, 4, LIKE)


def areas(masks: ControlMasks) -> tuple[float, float]:
    assert masks.audio is not None and masks.motion is not None
    return float(masks.audio.pixels.sum()), float(masks.motion.pixels.sum())


@pytest.mark.parametrize(
    ("audio", "visual", "mode", "expected"),
    [
        (True, True, "paper", (8, 24)),
        (True, True, "overlap", (8, 32)),
        (True, True, "released", (64, 64)),
        (True, True, "none", (64, 64)),
        (True, False, "paper", (32, 0)),
        (True, False, "released", (32, 0)),
        (True, False, "none", (64, 0)),
        (False, True, "paper", (0, 32)),
    ],
)
def test_masks_for_every_gate_and_mode(audio, visual, mode, expected):
    face, mouth = box_mask((0, 0, 8, 4), 8, 8), box_mask((2, 2, 6, 4), 8, 8)
    assert areas(control_masks(face, mouth, audio=audio, visual=visual, mode=mode)) == expected


def test_closed_gates_and_unknown_modes_are_refused():
    face = torch.ones(1, 1, 8, 8)
    with pytest.raises(ValueError, match="at least one gate"):
        control_masks(face, face, audio=False, visual=False)
    with pytest.raises(ValueError, match="unknown mask mode 'soft'"):
        control_masks(face, face, audio=True, visual=False, mode="soft")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="has shape"):
        ControlMask(torch.ones(8, 8))


def test_mouth_box():
    assert mouth_box((10, 20, 30, 40)) == (10, 30, 30, 40)


def layer_inputs(rows: int, tokens: int):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(rows, tokens, 32, generator=g)
    return (
        x,
        torch.randn(rows, 1, 1, 16, generator=g),
        torch.randn(rows, 1, 3, 16, generator=g),
        torch.randn(rows, 1, 1, 16, generator=g),
    )


@torch.no_grad()
def test_clips_with_different_masks_batch_exactly():
    """Ragged token sets are padded with positions that leave the scan's state untouched."""
    torch.manual_seed(0)
    layer = ParallelControl(32, 16, ControlConfig(state=4))
    x, identity, audio, motion = layer_inputs(3, 16)
    boxes = [(0, 0, 32, 16), (8, 8, 24, 32), (0, 0, 0, 0)]
    pixels = torch.cat([box_mask(box, 32, 32) for box in boxes])
    together = ControlMask(pixels).level((4, 4), 3, 1, x)
    assert together.valid is not None
    batched = layer(x, identity, audio, motion, together, None, frames=1)
    for i in range(3):
        alone = ControlMask(pixels[i : i + 1]).level((4, 4), 1, 1, x)
        one = slice(i, i + 1)
        single = layer(x[one], identity[one], audio[one], motion[one], alone, None, frames=1)
        torch.testing.assert_close(batched[one], single, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_masks_that_move_over_frames():
    torch.manual_seed(0)
    layer = ParallelControl(32, 16, ControlConfig(state=4))
    x, identity, audio, motion = layer_inputs(2, 16)
    pixels = torch.stack([box_mask(box, 32, 32)[0, 0] for box in ((0, 0, 32, 16), (0, 16, 32, 32))])[None]
    moving = ControlMask(pixels)
    context = (identity[:1], audio.transpose(0, 1), motion.transpose(0, 1))
    both = layer(x, *context, moving.level((4, 4), 1, 2, x), None, frames=2)
    for i in range(2):
        still = moving.frames(torch.tensor([i])).level((4, 4), 1, 1, x)
        one = (context[0], context[1][:, i : i + 1], context[2][:, i : i + 1])
        torch.testing.assert_close(
            both[i : i + 1], layer(x[i : i + 1], *one, still, None, frames=1), rtol=1e-5, atol=1e-6
        )


@torch.no_grad()
def test_driving_tokens_change_only_what_the_mask_selects():
    torch.manual_seed(0)
    layer = ParallelControl(32, 16, ControlConfig())
    x, identity, audio, motion = layer_inputs(1, 16)
    top = ControlMask(box_mask((0, 0, 32, 16), 32, 32)).level((4, 4), 1, 1, x)
    bottom = ControlMask(box_mask((0, 16, 32, 32), 32, 32)).level((4, 4), 1, 1, x)
    base = layer(x, identity, audio, motion, top, bottom, frames=1)
    other_audio = layer(x, identity, audio + 1, motion, top, bottom, frames=1)
    other_motion = layer(x, identity, audio, motion + 1, top, bottom, frames=1)
    changed_by_audio = (base - other_audio).abs().amax(-1)[0] > 1e-7
    changed_by_motion = (base - other_motion).abs().amax(-1)[0] > 1e-7
    assert changed_by_audio.tolist() == [True] * 8 + [False] * 8
    assert changed_by_motion.tolist() == [False] * 8 + [True] * 8


@torch.no_grad()
def test_scan_layouts_differ_in_what_frames_see():
    """Per frame, a frame's output ignores the other frames; spatio-temporally it does not."""
    torch.manual_seed(0)
    x, identity, audio, motion = layer_inputs(2, 16)
    context = (identity[:1], audio.transpose(0, 1), motion.transpose(0, 1))
    for scan, independent in (("per-frame", True), ("spatio-temporal", False)):
        layer = ParallelControl(32, 16, ControlConfig(scan=scan))
        changed = x.clone()
        changed[1] += 1
        first = layer(x, *context, None, None, frames=2)[0]
        again = layer(changed, *context, None, None, frames=2)[0]
        assert torch.allclose(first, again, atol=1e-6) is independent


@torch.no_grad()
def test_residual_layer_starts_as_the_identity():
    layer = ParallelControl(32, 16, ControlConfig(residual=True))
    x, identity, audio, motion = layer_inputs(1, 16)
    assert torch.equal(layer(x, identity, audio, motion, None, None, frames=1), x)


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
def test_temporal_cross_attention_is_unmasked_unless_told(masked):
    """As released, a driving signal reaches every position through the temporal block."""
    torch.manual_seed(0)
    layer = SpatioTemporalTransformer(32, 16, 1, 8, 1.25, ControlConfig())
    for mixer in layer.modules():
        if isinstance(mixer, TimeMixer):
            mixer.mix_factor.zero_()
    _, identity, _, motion = layer_inputs(1, 16)
    nowhere, top = torch.zeros(1, 1, 32, 32), box_mask((0, 0, 32, 16), 32, 32)
    x = torch.randn(1, 32, 4, 4)

    def run(motion):
        context = Context(identity, None, motion)
        masks = ControlMasks(ControlMask(nowhere), ControlMask(top))
        return layer(x, Conditioning(context, context.over_time(), masks, 1, 1, temporal_masks=masked))

    changed = (run(motion) - run(motion + 1)).abs().amax(1)[0] > 1e-7
    assert changed[:2].all() and bool(changed[2:].any()) != masked
