import subprocess
import sys

import pytest
from accelerate import Accelerator

from vec2text.hardware import bf16, describe, keep_memory


def test_precision_is_what_was_asked_for():
    assert bf16("bf16")
    assert not bf16("fp32")
    assert bf16("auto") in (True, False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_memory_that_is_freed_is_kept():
    script = """
import resource, sys, torch
from vec2text.hardware import keep_memory
if sys.argv[1:]: keep_memory()
def faults():
    for _ in range(20):
        torch.ones(2**24)  # 64 MiB: more than glibc takes from its heap by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults()
print(-faults() + faults())
"""
    counts = [
        int(subprocess.run([sys.executable, "-c", script, *keeps], capture_output=True, check=True, text=True).stdout)
        for keeps in ([], ["keep"])
    ]
    assert counts[1] < counts[0] / 5


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # a C library that has no such call
    keep_memory()


def test_the_hardware_has_a_name():
    assert "CPU" in describe(Accelerator(cpu=True))
