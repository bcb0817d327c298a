"""A short path to `app.services.speech.tts`."""

from app.services.speech.tts import TTS, NoSuchVoice, Voice

__all__ = ["TTS", "NoSuchVoice", "Voice"]
