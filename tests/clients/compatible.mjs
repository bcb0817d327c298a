// Drives the AI SDK with this service as the provider of its models.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";
import { AGENT, BASE, run, TOKEN } from "./common.mjs";

const provider = createOpenAICompatible({
  name: "bot",
  apiKey: TOKEN,
  baseURL: `${BASE}/v1`,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const modelOf = (name) => provider(name === "agent" ? `agent:${AGENT}` : name);
const prompt = "2 + 3";
const city = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };

await run({
  async text(model) {
    const { text, usage, finishReason } = await generateText({ model: modelOf(model), prompt });
    const result = streamText({ model: modelOf(model), prompt });
    let streamed = "";
    for await (const piece of result.textStream) streamed += piece;
    return { text, usage, finishReason, streamed, streamedUsage: await result.usage };
  },

  async reasoning() {
    const options = { providerOptions: { bot: { reasoningEffort: "low" } } };
    const result = streamText({ model: modelOf("demo"), prompt, ...options });
    return { reasoning: await result.reasoningText, text: await result.text };
  },

  async functions(model) {
    const called = [];
    const weather = tool({
      description: "Tells the weather of a city.",
      inputSchema: jsonSchema(city),
      execute: async (input) => {
        called.push(input);
        return { sky: "blue" };
      },
    });
    const stopWhen = isStepCount(5);
    const { text, steps } = await generateText({ model: modelOf(model), prompt, tools: { weather }, stopWhen });
    return { text, called, steps: steps.length };
  },

  async schema() {
    const output = Output.object({ schema: jsonSchema(city) });
    const { output: place } = await generateText({ model: modelOf("demo"), prompt, output });
    return place;
  },

  async error() {
    return generateText({ model: modelOf("nope"), prompt, maxRetries: 0 }).then(
      () => null,
      ({ name, statusCode, message }) => ({ name, statusCode, message }),
    );
  },
});
