"""Mixed precision: what the network sees, and where it is worth it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from monai_constraints.engines import AutocastInferer, fast_bfloat16


@pytest.mark.parametrize(("enabled", "seen"), [(True, torch.bfloat16), (False, torch.float32)])
def test_network_sees_the_precision_and_logits_are_float32(enabled, seen):
    outputs = []
    conv = torch.nn.Conv2d(1, 2, 3)
    conv.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.dtype))
    assert AutocastInferer(enabled)(torch.randn(1, 1, 5, 5), conv).dtype == torch.float32
    assert outputs == [seen]


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="reads the flags of a Linux x86-64 processor"
)
def test_a_cpu_is_fast_in_bfloat16_when_its_flags_say_so():
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert fast_bfloat16("cpu") == ({"avx512bw", "avx512vl", "avx512dq"} <= flags or "avx_ne_convert" in flags)


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_without_emulation(native, monkeypatch):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
    )
    assert fast_bfloat16(torch.device("cuda:0")) is native


def test_other_devices_stay_in_float32():
    assert not fast_bfloat16("mps")
