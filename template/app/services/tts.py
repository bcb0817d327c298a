"""Exports `app.services.speech.tts` under a shorter path."""

from app.services.speech.tts import TTS, NoSuchVoice, Voice

__all__ = ["TTS", "NoSuchVoice", "Voice"]
