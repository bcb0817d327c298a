"""A short path to `app.services.speech.stt`."""

from app.services.speech.stt import STT, Segment, Transcript

__all__ = ["STT", "Segment", "Transcript"]
