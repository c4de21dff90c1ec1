"""A release is built upon a base image that is named by its digest."""

import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize(
    "base", ["python:3.11-slim-bookworm", "python", "python@sha256:12", "python:3.11@sha1:" + "0" * 64]
)
def test_base_image_without_its_digest_is_refused_for_a_release(base: str) -> None:
    done = image("--pinned", "--base", base)
    assert (done.returncode, "DIGEST" in done.stderr) == (1, True)


def test_base_image_with_its_digest_is_taken() -> None:
    assert "DIGEST" not in image("--pinned", "--base", "python:3.11@sha256:" + "0" * 64).stderr


def image(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the script where no builder is installed."""
    tools = pathlib.Path("/usr/bin"), pathlib.Path("/bin")
    command = ["sh", str(ROOT / "tools" / "image.sh"), *arguments, "--", "--help-that-no-builder-has"]
    environment = {**os.environ, "PATH": ":".join(map(str, tools)), "DOCKER_HOST": "tcp://127.0.0.1:1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
