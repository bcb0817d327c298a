"""Speech: reading aloud and transcribing, by engines on this machine or providers on the network."""
