"""Who can speak and listen: each module beside this one has `open_tts` and `open_stt`."""
