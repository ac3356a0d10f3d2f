"""The Hub where there is no network."""

import socket

import pytest
from huggingface_hub import constants

from segacc.runtime.network import hub_or_its_cache, why_unreachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_a_hub_that_cannot_be_reached_is_not_asked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
        with hub_or_its_cache() as unreachable:
            assert unreachable == "" and not constants.is_offline_mode()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with hub_or_its_cache() as unreachable:
        assert unreachable == "127.0.0.1 cannot be reached: Connection refused"
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()


def test_what_the_user_has_set_stays(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with hub_or_its_cache() as unreachable:
        assert unreachable == ""
    assert constants.is_offline_mode()


def test_behind_a_proxy_the_proxy_knows(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert why_unreachable("https://nowhere.invalid") == ""
