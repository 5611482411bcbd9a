"""What environment variables decide is said, and only where the configuration leaves it open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from snn_artsy.config import BackboneConfig, RunConfig
from snn_artsy.runs.features import set_by_environment


def test_variables_that_set_options_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SNN_ARTSY_CACHE", "XDG_CACHE_HOME", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    config = RunConfig()
    assert set_by_environment(config) == []
    monkeypatch.setenv("XDG_CACHE_HOME", "/there")
    assert set_by_environment(config) == ["XDG_CACHE_HOME is set: features are kept below /there"]
    monkeypatch.setenv("SNN_ARTSY_CACHE", "/here")  # it comes first
    assert set_by_environment(config) == ["SNN_ARTSY_CACHE is set: features are kept below /here"]
    for given in (BackboneConfig(cache_dir="c"), BackboneConfig(cache=False)):
        assert set_by_environment(replace(config, backbone=given)) == []
    monkeypatch.delenv("SNN_ARTSY_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("snn_artsy.runs.features.available_cores", lambda: 4)
    monkeypatch.setattr("snn_artsy.runs.features.cores", lambda: 2)
    assert set_by_environment(config) == [
        "OMP_NUM_THREADS is set: features are extracted by at most 2 threads"
    ]
    assert set_by_environment(replace(config, threads=3)) == []
