"""Frames one by one: fused blocks, masks, compilation and graphs give the plain model's frames."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from uas_plugin.audiollm.uniaudio2.config import StackConfig, UniAudio2Config
from uas_plugin.audiollm.uniaudio2.decoding import FrameDecoder, audio_frame
from uas_plugin.audiollm.uniaudio2.frame import Sampling
from uas_plugin.audiollm.uniaudio2.model import UniAudio2
from uas_plugin.errors import UASError

SIZES = UniAudio2Config(
    reason_card=20,
    semantic_card=36,
    text_vocab=72,
    backbone=StackConfig(2, 32, 4, 2, 48),
    understanding=StackConfig(1, 32, 4, 1, 40),
    generation=StackConfig(1, 32, 2, 2, 48),
    depth=StackConfig(1, 24, 4, 2, 32),
    max_frames=192,
)
GREEDY = Sampling(topk=1, temperature=1.0)
PADS = torch.tensor([0, 3])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UniAudio2(SIZES).eval()


def prompts(device="cpu"):
    tokens = torch.zeros(2, 10, 9, dtype=torch.long)
    tokens[..., 8] = torch.arange(20).view(2, 10)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    mask[..., 8] = True
    mask[1, : PADS[1]] = False
    return tokens.to(device), mask.to(device)


def written(decoder: FrameDecoder, sampling: Sampling = GREEDY, frames: int = 8):
    """(2, frames, 8) ids after the prompts, and the last logits."""
    tokens, mask = prompts(decoder.device)
    decoder.start(PADS)
    decoder.prefill(tokens, mask)
    generator = torch.Generator(decoder.device).manual_seed(0)
    fed, fed_mask, made = tokens[:, -1], mask[:, -1], []
    for step in range(frames):
        out = decoder.step(fed, fed_mask, 9 + step, sampling, generator=generator)
        made.append(out.frames[:, 1:])
        fed, fed_mask = audio_frame(out.frames)
    return torch.stack(made, dim=1), out.audio_logits


@torch.no_grad()
def test_the_fused_frame_is_the_plain_models(model):
    """Logits of one pass over prompt and frames, without caches and one row at a time."""
    made, logits = written(FrameDecoder(model, 2, pads=PADS))
    tokens, mask = prompts()
    for row, pad in enumerate(PADS.tolist()):
        fed = torch.zeros(1, 7, 9, dtype=torch.long)
        fed[0, :, :8] = made[row, :-1]
        fed_mask = torch.ones_like(fed, dtype=torch.bool)
        fed_mask[..., 8] = False
        whole = torch.cat([tokens[row : row + 1, pad:], fed], dim=1)
        whole_mask = torch.cat([mask[row : row + 1, pad:], fed_mask], dim=1)
        h = model.hidden(whole, whole_mask)[:, -1]
        wanted = model.depth_logits(h, made[row : row + 1, -1])[0]
        torch.testing.assert_close(logits[:, row], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(5, 0.9)])
def test_compiled_frames_are_the_eager_ones(model, sampling, monkeypatch):
    """Traced as a whole: nothing in a frame waits for the device. Few positions more are looked
    at, which the mask hides."""
    compile_as = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda run, **options: compile_as(run, backend="eager", **options)
    )
    eager = written(FrameDecoder(model, 2, pads=PADS), sampling, 4)
    compiled = written(FrameDecoder(model, 2, pads=PADS, mode="compile"), sampling, 4)
    assert eager[0].tolist() == compiled[0].tolist()
    torch.testing.assert_close(eager[1], compiled[1], atol=1e-5, rtol=1e-4)


class Reads(TorchDispatchMode):
    """Counts values that are read back from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_frame_reads_nothing_back(model):
    decoder = FrameDecoder(model, 2, pads=PADS)
    tokens, mask = prompts()
    decoder.start(PADS)
    decoder.prefill(tokens, mask)
    with Reads() as counted:
        decoder.step(tokens[:, -1], mask[:, -1], 9, Sampling(5, 0.9))
    assert counted.reads == 0
    with Reads() as counted:
        bool(tokens.any())
    assert counted.reads == 1  # the count is none of nothing


def test_weights_are_held_once_and_go_on_learning(model):
    attention = model.backbone.layers[0].self_attn
    names, optimizer = list(model.state_dict()), torch.optim.SGD(model.parameters(), lr=0.5)
    first, _ = written(FrameDecoder(model, 2, pads=PADS))
    storage = attention.q_proj.weight.untyped_storage().data_ptr()
    assert attention.v_proj.weight.untyped_storage().data_ptr() == storage
    written(FrameDecoder(model, 2, pads=PADS))
    assert attention.q_proj.weight.untyped_storage().data_ptr() == storage  # not joined again
    assert list(model.state_dict()) == names
    tokens, mask = prompts()
    model.text_logits(tokens, mask).square().sum().backward()
    optimizer.step()
    learned, logits = written(FrameDecoder(model, 2, pads=PADS))
    other = UniAudio2(SIZES)
    other.load_state_dict(model.state_dict())
    again, logits_again = written(FrameDecoder(other, 2, pads=PADS))
    torch.testing.assert_close(logits, logits_again)
    assert learned.tolist() == again.tolist()


def test_modes_are_checked(model):
    with pytest.raises(UASError, match="one of eager, graphs, compile, not fast"):
        FrameDecoder(model, 1, mode="fast")
    with pytest.raises(UASError, match="graphs needs a GPU"):
        FrameDecoder(model, 1, mode="graphs")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(5, 0.9)])
def test_graphs_replay_the_eager_frames(model, sampling):
    model = model.cuda()
    eager = written(FrameDecoder(model, 2, pads=PADS, mode="eager"), sampling, 80)
    graphs = FrameDecoder(model, 2, pads=PADS)
    assert graphs.mode == "graphs"
    for _ in range(2):
        made = written(graphs, sampling, 80)
        assert made[0].tolist() == eager[0].tolist()
