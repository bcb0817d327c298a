SHARED = ["/v1/models/{model_id}"]
"""Names models, which are the same for everybody; those that are agents have a case."""
ASKED = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "stream": True}
WRITES = [("post", "/v1/chat/completions", ASKED)]
