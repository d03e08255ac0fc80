"""The configuration: which source wins, what is a mistake, and that all are reported at once."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from server.config import Config, ConfigError
from server.options import load, parser
from tests.paths import ROOT

# A new option is a promise to every operator, so it has to be added here, too.
OPTIONS: dict[str, Any] = {
    "model": "models/starter.tar.xz",
    "model_name": "",
    "version_policy": "latest",
    "version_weights": "",
    "poll_s": 0.0,
    "repository_control": "off",
    "cache_dir": "~/.cache/alexnet",
    "host": "127.0.0.1",
    "http_port": 8000,
    "grpc_port": 8001,
    "metrics_port": 8002,
    "http_socket": "",
    "grpc_socket": "",
    "http_keepalive_s": 75.0,
    "max_connection_age_s": 0.0,
    "precision": "auto",
    "tls_certificate": "",
    "tls_key": "",
    "tls_client_ca": "",
    "keys_file": "",
    "cors_origin": "",
    "allowed_hosts": "",
    "engine": "auto",
    "devices": "",
    "workers": 1,
    "engine_threads": 0,
    "decode_threads": 0,
    "max_batch_size": 32,
    "preferred_batch_size": "",
    "max_queue_delay_microseconds": 0,
    "priority_levels": 1,
    "default_priority_level": 0,
    "max_queue_size": 256,
    "max_request_bytes": 20_000_000,
    "max_photo_bytes": 1_000_000_000,
    "max_image_pixels": 64_000_000,
    "request_timeout_ms": 10_000,
    "cache_bytes": 0,
    "drain_delay_s": 0.0,
    "drain_timeout_s": 30.0,
    "log_level": "info",
    "log_format": "text",
    "access_log": "errors",
}

NOTHING: Mapping[str, str] = {}


def mistakes(*argv: str, environ: Mapping[str, str] = NOTHING) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(argv, environ)
    return str(caught.value).splitlines()


def written(folder: Path, text: str) -> str:
    path = folder / "server.toml"
    path.write_text(text)
    return str(path)


def test_the_options_and_their_defaults_are_frozen() -> None:
    config = load([], NOTHING)
    assert {f.name: getattr(config, f.name) for f in fields(Config)} == OPTIONS


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_a_flag_with_its_default_in_the_help(name: str) -> None:
    words = " ".join(parser().format_help().split())
    assert f"--{name.replace('_', '-')} " in words
    default = "none" if OPTIONS[name] == "" else OPTIONS[name]
    assert f"(default: {default})" in words


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(tmp_path: Path) -> None:
    keys = ("http_port", "grpc_port", "metrics_port")
    path = written(tmp_path, "".join(f"{key} = 1\n" for key in keys))
    environ = {"ALEXNET_HTTP_PORT": "2", "ALEXNET_GRPC_PORT": "2"}
    config = load(["--config", path, "--http-port", "3"], environ)
    assert (config.http_port, config.grpc_port, config.metrics_port) == (3, 2, 1)
    assert config.max_batch_size == OPTIONS["max_batch_size"]


def test_the_flag_for_the_file_wins_over_the_environment(tmp_path: Path) -> None:
    environ = {"ALEXNET_CONFIG": written(tmp_path, "http_port = 1")}
    assert load([], environ).http_port == 1
    other = tmp_path / "other.toml"
    other.write_text("http_port = 2")
    assert load(["--config", str(other)], environ).http_port == 2


def test_every_option_can_stand_in_the_file(tmp_path: Path) -> None:
    changed: dict[str, Any] = {
        **{name: value + 1 for name, value in OPTIONS.items() if not isinstance(value, str)},
        "model": "m", "model_name": "n", "host": "h", "precision": "fp32", "log_level": "debug",
        "log_format": "json", "access_log": "off", "version_policy": "1,3",
        "version_weights": "1=90,3=10", "keys_file": "k", "cors_origin": "https://a",
        "allowed_hosts": "photos.example",
        "http_socket": "", "grpc_socket": "", "tls_certificate": "c", "tls_key": "k",
        "tls_client_ca": "a",
        "repository_control": "local", "cache_dir": "c", "preferred_batch_size": "8,16",
        "engine": "tensorrt", "devices": "0,1",
    }  # fmt: skip
    assert changed.keys() == OPTIONS.keys()
    lines = (f"{k} = '{v}'\n" if isinstance(v, str) else f"{k} = {v}\n" for k, v in changed.items())
    assert load(["--config", written(tmp_path, "".join(lines))], NOTHING) == Config(**changed)


def test_all_mistakes_of_all_sources_are_reported_together(tmp_path: Path) -> None:
    path = written(tmp_path, "precison = 'int8'\nmax_queue_size = 0\nlog_level = 'loud'\n")
    environ = {"ALEXNET_HTTP_PORT": "eighty", "ALEXNET_BATCH": "4"}
    flags = ("--config", path, "--grpc-port", "70000", "--drain-delay-s", "soon")
    told = mistakes(*flags, environ=environ)
    assert sorted(told) == sorted([
        f"{path}: precison is no option; see alexnet-server --help",
        "ALEXNET_BATCH is no option; see alexnet-server --help",
        "ALEXNET_HTTP_PORT must be a whole number, not 'eighty'",
        "--drain-delay-s must be a number, not 'soon'",
        "grpc_port must lie between 0 and 65535 (0 picks a free one), not 70000",
        "max_queue_size must lie between 1 and 100000, not 0",
        "log_level must be one of debug, info, warning, error, not 'loud'",
    ])  # fmt: skip


def test_a_name_for_callers_has_to_fit_into_a_url() -> None:
    assert load(["--model-name", "my.photos-2"], NOTHING).model_name == "my.photos-2"
    (told,) = mistakes("--model-name", "a/b")
    assert told.startswith("model_name must be up to 64 of the letters")


def test_variables_of_other_programs_are_ignored() -> None:
    assert load([], {"HTTP_PORT": "x", "PATH": "/bin", "ALEXNETTE": "1"}) == Config()


def test_variables_of_kubernetes_for_a_service_named_alexnet_are_ignored() -> None:
    links: dict[str, str] = {}
    for service in ("ALEXNET", "ALEXNET_HTTP"):
        links |= {
            f"{service}_SERVICE_HOST": "10.0.0.7",
            f"{service}_SERVICE_PORT": "80",
            f"{service}_SERVICE_PORT_WEB": "80",
            f"{service}_PORT": "tcp://10.0.0.7:80",
            f"{service}_PORT_80_TCP": "tcp://10.0.0.7:80",
            f"{service}_PORT_80_TCP_PROTO": "tcp",
            f"{service}_PORT_80_TCP_PORT": "80",
            f"{service}_PORT_80_TCP_ADDR": "10.0.0.7",
        }
    assert load([], links) == Config()
    assert load([], {**links, "ALEXNET_GRPC_PORT": "7"}) == Config(grpc_port=7)


@pytest.mark.parametrize("name", [*OPTIONS, "config"])
def test_an_empty_variable_means_the_default(name: str) -> None:
    """Compose files write `ALEXNET_HTTP_PORT: ${PORT:-}`."""
    assert load([], {f"ALEXNET_{name.upper()}": ""}) == Config()


def test_an_empty_file_name_means_no_file() -> None:
    assert load([], {"ALEXNET_CONFIG": ""}) == Config()


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("http_port = true", "http_port must be a whole number, not True"),
        ("http_port = 80.0", "http_port must be a whole number, not 80.0"),
        ("http_port = '80'", "http_port must be a whole number, not '80'"),
        ("http_port = [80]", "http_port must be a whole number, not [80]"),
        ("drain_delay_s = true", "drain_delay_s must be a number, not True"),
        ("drain_delay_s = '1'", "drain_delay_s must be a number, not '1'"),
        ("host = 127", "host must be text, not 127"),
        ("[model]\nname = 'a'", "model must be text, not {'name': 'a'}"),
        ("[server]\nhttp_port = 80", "server is no option"),
        ("config = 'more.toml'", "config is no option"),
    ],
)
def test_a_value_of_the_wrong_type_in_the_file_is_a_mistake(
    tmp_path: Path, line: str, word: str
) -> None:
    path = written(tmp_path, line)
    (told,) = mistakes("--config", path)
    assert told.startswith(f"{path}: {word}")


def test_a_whole_number_of_seconds_in_the_file_becomes_a_float(tmp_path: Path) -> None:
    config = load(["--config", written(tmp_path, "drain_delay_s = 2")], NOTHING)
    assert config.drain_delay_s == 2.0
    assert isinstance(config.drain_delay_s, float)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--http-port", "-1"), ("--metrics-port", "65536"), ("--engine-threads", "-1"),
        ("--max-batch-size", "0"), ("--max-queue-size", "0"), ("--max-request-bytes", "0"),
        ("--max-image-pixels", "0"), ("--max-image-pixels", "178956971"),
        ("--request-timeout-ms", "0"), ("--drain-delay-s", "-0.1"), ("--drain-timeout-s", "nan"),
        ("--precision", "int4"), ("--log-format", "xml"), ("--host", ""), ("--model", ""),
        ("--preferred-batch-size", "0"), ("--preferred-batch-size", "8,-1"), ("--devices", "-1"),
        ("--devices", "0,0"),
        ("--decode-threads", "1025"), ("--engine-threads", "1025"),
        ("--max-request-bytes", "2147483648"), ("--max-connection-age-s", "2592000"),
        ("--max-connection-age-s", "inf"), ("--drain-timeout-s", "inf"),
        ("--max-batch-size", "70000"), ("--max-queue-size", "1000000000"),
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_a_mistake(flag: str, value: str) -> None:
    (told,) = mistakes(f"{flag}={value}")
    assert told.startswith(f"{flag[2:].replace('-', '_')} must ")
    assert value in told


def test_a_preferred_batch_is_one_that_may_be() -> None:
    assert load(["--preferred-batch-size", "8,32"], NOTHING).max_batch_size == 32
    (told,) = mistakes("--max-batch-size", "8", "--preferred-batch-size", "4,16")
    assert told == "preferred_batch_size must not have sizes above max_batch_size"


@pytest.mark.parametrize("content", [None, b"http_port = ", b"\xff\xfe"])
def test_an_unreadable_file_is_reported_with_the_other_mistakes(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "server.toml"
    if content is not None:
        path.write_bytes(content)
    told = mistakes("--config", str(path), "--http-port", "x")
    assert len(told) == 2
    assert told[0].startswith(f"the configuration file {path} cannot be read")


@pytest.mark.process
def test_a_wrong_configuration_prints_every_mistake_and_exits_with_code_2() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "server", "--http-port", "http", "--max-batch-size", "0"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.splitlines() == [
        "alexnet-server: the configuration is wrong",
        "--http-port must be a whole number, not 'http'",
        "max_batch_size must lie between 1 and 4096, not 0",
    ]


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "a = " + "{b=" * 5000, "a." * 200_000 + "b = 1", "# " * 100_000]
)
def test_a_file_that_is_deep_or_large_is_one_mistake(tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(["--config", str(path)], {})
    assert str(caught.value).startswith(f"the configuration file {path}")
    assert len(str(caught.value).splitlines()) == 1


def test_a_fifo_is_no_configuration_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "server.toml")
    with pytest.raises(ConfigError, match="no plain file"):
        load(["--config", str(tmp_path / "server.toml")], {})
