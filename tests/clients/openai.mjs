// Drives OpenAI's client for Node as its documentation does.

import OpenAI from "openai";
import { AGENT, ASKING_AGENT, BASE, run, TOKEN } from "./common.mjs";

const client = new OpenAI({ apiKey: TOKEN, baseURL: `${BASE}/v1`, maxRetries: 0 });
const messages = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "2 + 3" },
];
const WEATHER = {
  type: "function",
  function: {
    name: "weather",
    description: "Tells the weather of a city.",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const SCHEMA = {
  type: "json_schema",
  json_schema: {
    name: "place",
    strict: true,
    schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  },
};
const PICTURE =
  "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

const modelOf = (name) => ({ agent: `agent:${AGENT}`, asking: `agent:${ASKING_AGENT}` })[name] ?? name;
const failed = ({ constructor, status, code, param, type, message, error }) => ({
  class: constructor.name,
  status,
  code,
  param,
  type,
  message,
  error,
});

async function streamed(request) {
  const stream = await client.chat.completions.create({ ...request, stream: true });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

await run({
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model);
    return { listed, one: await client.models.retrieve(modelOf("agent")) };
  },

  async text(model) {
    const whole = await client.chat.completions.create({ model: modelOf(model), messages });
    const chunks = await streamed({ model: modelOf(model), messages, stream_options: { include_usage: true } });
    return { whole, chunks };
  },

  async reasoning(model) {
    const asked = { model: modelOf(model), messages, reasoning_effort: "low" };
    return { whole: await client.chat.completions.create(asked), chunks: await streamed(asked) };
  },

  // The client's own loop: it runs the function, and asks again with what that returned.
  async functions(model) {
    const called = [];
    const weather = {
      type: "function",
      function: {
        ...WEATHER.function,
        parse: JSON.parse,
        function: (input) => {
          called.push(input);
          return { sky: "blue" };
        },
      },
    };
    const runner = client.chat.completions.runTools({ model: modelOf(model), messages, tools: [weather], stream: true });
    return { answer: await runner.finalContent(), called, messages: runner.messages };
  },

  async schema(model) {
    const parsed = await client.chat.completions.parse({ model: modelOf(model), messages, response_format: SCHEMA });
    return parsed.choices[0];
  },

  async picture() {
    const content = [
      { type: "text", text: "What is this?" },
      { type: "image_url", image_url: { url: PICTURE, detail: "low" } },
    ];
    const answer = await client.chat.completions.create({ model: "demo", messages: [{ role: "user", content }] });
    return answer.choices[0].message.content;
  },

  async error(body, token) {
    const asking = token === undefined ? client : new OpenAI({ apiKey: token, baseURL: `${BASE}/v1`, maxRetries: 0 });
    const { model = "demo", ...more } = JSON.parse(body);
    const answer = asking.chat.completions.create({ model: modelOf(model), messages, ...more });
    return answer.then(() => null, failed);
  },

  async streamedError(model) {
    return streamed({ model: modelOf(model), messages }).then((chunks) => chunks, failed);
  },

  async stop() {
    const stream = await client.chat.completions.create({ model: "demo", messages, stream: true });
    let heard = 0;
    for await (const _chunk of stream) {
      heard += 1;
      if (heard === 5) break; // aborts the request, as front ends do
    }
    return heard;
  },

  // Breaks off amid an answer when the server is killed, and asks once more with the same key.
  async survive(model) {
    const options = { headers: { "Idempotency-Key": "once" } };
    const request = { model: modelOf(model), messages, stream: true };
    let heard = "";
    let error = null;
    try {
      for await (const chunk of await client.chat.completions.create(request, options)) {
        heard += chunk.choices[0].delta.content ?? "";
        if (heard.length > 20) console.error("streaming");
      }
    } catch (reason) {
      error = failed(reason);
    }
    for (;;) {
      const alive = await fetch(`${BASE}/health`).then((response) => response.ok, () => false);
      if (alive) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const patient = new OpenAI({ apiKey: TOKEN, baseURL: `${BASE}/v1`, maxRetries: 5 });
    const again = await patient.chat.completions.create({ ...request, stream: false }, options);
    const repeated = await patient.chat.completions.create({ ...request, stream: false }, options);
    return { heard, error, again, repeated };
  },
});
