import pytest
import torch

from vec2text.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    learn(model, optimizer)
    return model, optimizer


def learn(model, optimizer):
    model(torch.randn(8, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def test_weights_moments_random_state_and_progress_come_back(trained, tmp_path):
    model, optimizer = trained
    save_checkpoint(tmp_path / "checkpoint", model, [optimizer], {"step": 7}, {"ids": torch.arange(3)})
    learn(model, optimizer)
    expected = [p.clone() for p in model.parameters()]
    other = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    second = torch.optim.AdamW(other.parameters(), lr=0.1)
    torch.manual_seed(123)
    progress, drafts = load_checkpoint(tmp_path / "checkpoint", other, [second])
    assert (progress, drafts["ids"].tolist()) == ({"step": 7}, [0, 1, 2])
    learn(other, second)  # draws the same numbers, and moves by the same moments
    assert all(torch.equal(a, b) for a, b in zip(expected, other.parameters(), strict=True))


@pytest.mark.parametrize("name", ["state.safetensors", "progress.json"])
def test_a_broken_checkpoint_is_one_clear_error(trained, tmp_path, name):
    model, optimizer = trained
    save_checkpoint(tmp_path / "checkpoint", model, [optimizer], {"step": 7}, {})
    path = tmp_path / "checkpoint" / name
    path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(ValueError, match=r"checkpoint.*is broken.*delete it"):
        load_checkpoint(tmp_path / "checkpoint", model, [optimizer])
