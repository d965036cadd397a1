import numpy as np
import pytest
import torch

from vec2text.config import TrainingConfig
from vec2text.optimizer import Muon, make_optimizers, schedule


def test_the_schedule_rises_then_falls_to_zero():
    shares = np.linspace(0, 1, 101)
    rates = np.array([schedule(share, 0.1) for share in shares])
    assert rates.argmax() == 10
    assert rates.max() == pytest.approx(1, abs=1e-2)
    assert rates[-1] == 0
    assert (np.diff(rates[:11]) > 0).all()
    assert (np.diff(rates[10:]) < 0).all()
    assert schedule(0.0, 0.0) == 1
    assert max(schedule(share, 0.1) for share in np.linspace(0.0999, 0.1, 101)) == 1  # never above, where it turns


def test_projection_and_gpt_have_their_own_learning_rates(inverter):
    config = TrainingConfig(learning_rate=1e-3, projection_learning_rate=5e-3, weight_decay=0.1)
    groups = make_optimizers(inverter, config)[0].param_groups
    found = {id(p): (group["peak"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found[id(inverter.projection.layers[0].weight)] == (5e-3, 0.1)
    assert found[id(inverter.projection.norm.weight)] == (5e-3, 0.0)
    assert found[id(inverter.decoder.get_input_embeddings().weight)] == (1e-3, 0.1)
    assert len(found) == len(list(inverter.parameters()))


def test_muon_takes_the_matrices_of_the_layers_and_nothing_else(inverter):
    config = TrainingConfig(optimizer="muon", learning_rate=1e-3, muon_learning_rate=7e-3)
    adamw, muon = make_optimizers(inverter, config)
    turned = {id(p) for group in muon.param_groups for p in group["params"]}
    assert {group["peak"] for group in muon.param_groups} == {7e-3}
    names = {name for name, p in inverter.named_parameters() if id(p) in turned}
    kinds = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    assert names == {f"decoder.transformer.h.{layer}.{kind}.weight" for layer in range(2) for kind in kinds}
    others = [id(p) for group in adamw.param_groups for p in group["params"]]
    assert sorted([*others, *turned]) == sorted(map(id, inverter.parameters()))


def test_muon_steps_as_that_of_torch_does():
    torch.manual_seed(0)
    shapes = [(24, 24), (24, 72), (72, 24), (24, 24)]
    ours, theirs = ([torch.nn.Parameter(torch.randn(shape)) for shape in shapes] for _ in range(2))
    options = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    optimizers = Muon(ours, **options), torch.optim.Muon(theirs, **options)
    start = [matrix.detach().clone() for matrix in ours]
    with torch.no_grad():
        for mine, other in zip(ours, theirs, strict=True):
            other.copy_(mine)
    for _ in range(3):
        gradients = [torch.randn(shape) for shape in shapes]
        for matrices, optimizer in zip((ours, theirs), optimizers, strict=True):
            for matrix, gradient in zip(matrices, gradients, strict=True):
                matrix.grad = gradient.clone()
            optimizer.step()
    for before, mine, other in zip(start, ours, theirs, strict=True):
        moved = (other - before).norm()
        assert (mine - other).norm() < 0.02 * moved  # torch's products are in bf16
    assert optimizers[0].state_dict().keys() == optimizers[1].state_dict().keys()
    for mine, other in zip(ours, theirs, strict=True):
        buffers = optimizers[0].state[mine]["momentum_buffer"], optimizers[1].state[other]["momentum_buffer"]
        torch.testing.assert_close(*buffers)
