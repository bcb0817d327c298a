"""Answers chat completions, as OpenAI's API defines them: the client brings the history with each request."""
