from accelerate import Accelerator

from vec2text.hardware import bf16, describe


def test_precision_is_what_was_asked_for():
    assert bf16("bf16")
    assert not bf16("fp32")
    assert bf16("auto") in (True, False)


def test_the_hardware_has_a_name():
    assert "CPU" in describe(Accelerator(cpu=True))
