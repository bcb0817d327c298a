"""Exports `app.services.speech.stt` under a shorter path."""

from app.services.speech.stt import STT, Segment, Transcript

__all__ = ["STT", "Segment", "Transcript"]
