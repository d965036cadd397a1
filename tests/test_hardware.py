from accelerate import Accelerator

from vec2text.hardware import bf16, describe


def test_precision_is_what_was_asked_for():
    assert bf16("bf16", "cpu")
    assert not bf16("fp32", "cpu")
    assert bf16("auto", "cpu") in (True, False)
    assert not bf16("auto", "mps")


def test_the_precision_of_a_device_is_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    assert bf16("auto", "cuda")
    assert not bf16("auto", "cpu")


def test_the_hardware_has_a_name():
    assert "CPU" in describe(Accelerator(cpu=True))
