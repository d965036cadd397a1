import subprocess
import sys

import pytest
from accelerate import Accelerator

from vec2text.hardware import bf16, describe, kept_memory


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


@pytest.mark.parametrize(("tiles", "dot_products"), [(True, False), (False, True), (False, False)])
def test_a_cpu_multiplies_bf16_fast_with_either_of_two_instructions(monkeypatch, tiles, dot_products):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: dot_products)
    assert bf16("auto", "cpu") == (tiles or dot_products)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_memory_that_is_freed_is_kept_for_a_while():
    script = """
import resource, torch
from vec2text.hardware import kept_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        torch.ones(2**24)  # 64 MiB: more than glibc takes from its heap by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20
faults()
print(faults())
with kept_memory("cpu") as give_back:
    faults()
    print(faults())
    before = resident()
    give_back()
    print(before - resident())
print(faults())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True)
    before, meanwhile, returned, after = map(int, done.stdout.split())
    assert meanwhile < before / 5
    assert returned > 50  # MiB
    assert after > meanwhile * 5


@pytest.mark.parametrize("library", [object(), OSError()])
def test_other_systems_are_left_alone(monkeypatch, library):
    def opened(_):
        if isinstance(library, OSError):
            raise library
        return library  # a C library that has no such call

    monkeypatch.setattr("ctypes.CDLL", opened)
    with kept_memory("cpu") as give_back:
        give_back()


def test_on_other_devices_memory_is_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: pytest.fail("asked for the C library"))
    with kept_memory("cuda") as give_back:
        give_back()


def test_the_hardware_has_a_name():
    assert "CPU" in describe(Accelerator(cpu=True))
