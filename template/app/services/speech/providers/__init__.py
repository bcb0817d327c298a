"""Holds the speech providers: each module beside this one has `open_tts` and `open_stt`."""
