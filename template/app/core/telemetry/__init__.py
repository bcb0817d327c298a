"""What happens in this process, told to those who watch over it: spans, metrics and errors, where settings say so."""
