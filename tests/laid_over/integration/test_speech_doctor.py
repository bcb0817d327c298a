"""Tests what the `doctor` command reports of speech."""

from importlib.util import find_spec

from tests.integration.conftest import Project
from tests.integration.test_speech import NOBODY_READS, NOBODY_UNDERSTANDS


def test_the_doctor_says_who_speaks_and_listens(prepared: Project) -> None:
    said = prepared.succeed("doctor")
    for package, is_there, is_not in (
        ("espeakng_loader", "ok       TTS_PROVIDER is offline:espeak-ng", f"off      {NOBODY_READS}"),
        ("pocketsphinx", "ok       STT_PROVIDER is offline:pocketsphinx", f"off      {NOBODY_UNDERSTANDS}"),
    ):
        assert f"{is_there if find_spec(package) else is_not}\n" in said


def test_the_doctor_names_each_direction_that_cannot_be_used(prepared: Project) -> None:
    done = prepared.run("doctor", TTS_PROVIDER="nobody", STT_PROVIDER="none", SPEECH_PROCESSES="many")
    assert done.returncode == 1
    for setting in ("TTS_PROVIDER", "STT_PROVIDER", "SPEECH_PROCESSES"):
        [line] = [line for line in done.stdout.splitlines() if setting in line]
        assert line.startswith("problem ")
    assert "problem  TTS_PROVIDER=nobody cannot be used: name one of" in done.stdout
