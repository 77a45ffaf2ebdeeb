"""Learning rates by part of the model, and their schedule."""

import pytest
import torch
from torch import nn

from uas_plugin.errors import UASError

pytestmark = pytest.mark.slow  # ESPnet's tasks take 10 s to import


@pytest.fixture(scope="module")
def optim():
    import uas_plugin  # noqa: F401  (the stand-in for torchaudio's extension)
    from uas_plugin.espnet import optim

    return optim


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.decoder = nn.ModuleDict({"encoder_attn": nn.Linear(2, 2), "fc": nn.Linear(2, 2)})
        self.encoder.bias.requires_grad_(False)


GROUPS = [
    {"match": "encoder", "lr": 1e-5, "min_lr": 1e-6},
    {"match": "", "lr": 6e-4, "min_lr": 6e-5, "weight_decay": 0.0},
]


def test_the_first_match_counts_and_frozen_parameters_are_left_out(optim):
    model = Model()
    encoder, rest = optim.param_groups(model.named_parameters(), GROUPS)
    # As in the release: the decoder's cross-attention has the encoder's rate.
    assert {id(p) for p in encoder["params"]} == {
        id(model.encoder.weight),
        *(id(p) for p in model.decoder["encoder_attn"].parameters()),
    }
    assert len(rest["params"]) == 2 and rest["weight_decay"] == 0.0


@pytest.mark.parametrize(
    "groups, message",
    [
        (GROUPS[:1], 'end with a group that has match ""'),
        ([{"match": "codec"}, {"match": ""}], "no trained parameter is left for match 'codec'"),
        ([{"match": "", "min_rl": 1.0}], "min_lr"),
    ],
)
def test_mistakes_in_groups_are_named(optim, groups, message):
    with pytest.raises(UASError, match=message):
        optim.param_groups(Model().named_parameters(), groups)


def test_every_group_follows_its_own_curve(optim):
    groups = optim.param_groups(Model().named_parameters(), GROUPS)
    optimizer = torch.optim.AdamW(groups)
    scheduler = optim.WarmupCosine(optimizer, warmup_steps=10, total_steps=110)
    rates = []
    for _ in range(130):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    for k, (peak, lowest) in enumerate(((1e-5, 1e-6), (6e-4, 6e-5))):
        curve = [row[k] for row in rates]
        assert curve[0] == pytest.approx(1e-6)
        assert curve[5] == pytest.approx((1e-6 + peak) / 2)
        assert curve[10] == pytest.approx(peak) == max(curve)
        assert curve[60] == pytest.approx((peak + lowest) / 2)
        assert curve[110:] == pytest.approx([lowest] * 20)


def test_a_warm_up_as_long_as_the_training_is_refused(optim):
    with pytest.raises(UASError, match="warmup_steps 5"):
        optim.WarmupCosine(torch.optim.SGD(Model().parameters(), lr=0.1), 5, 5)
