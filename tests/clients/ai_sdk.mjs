// Drives `useChat`'s own class, with the default transport and nothing else.

import { Chat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} from "ai";
import { api, BASE, AGENT, ASKING_AGENT, headers, run, until } from "./common.mjs";

const WEATHER = {
  name: "weather",
  description: "Tells the weather of a city.",
  input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};

function open(body = {}, more = {}) {
  const transport = new DefaultChatTransport({ api: `${BASE}/api/v1/ai-sdk/chat`, headers, body });
  return new Chat({ transport, ...more });
}

const textOf = (message) => message.parts.filter((part) => part.type === "text").map((part) => part.text).join("|");
const seen = (chat) => ({
  status: chat.status,
  error: chat.error?.message,
  messages: chat.messages.map(({ id, role, parts, metadata }) => ({ id, role, parts, metadata })),
});
const idle = (chat) => until(() => ["ready", "error"].includes(chat.status));

async function stopped(chat) {
  await until(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage).length > 0);
  await api("POST", `/chat/messages/${chat.lastMessage.id}/stop`, {});
  await idle(chat);
}

await run({
  async text() {
    const chat = open();
    await chat.sendMessage({ text: "hello" });
    await chat.sendMessage({ text: "and again" });
    const { messages } = await api("GET", `/ai-sdk/chat/${chat.id}`);
    return { ...seen(chat), loaded: messages };
  },

  async reasoning() {
    const chat = open({ reasoning_effort: "low" });
    await chat.sendMessage({ text: "hello" });
    return seen(chat);
  },

  async serverTool() {
    const chat = open({ agent_id: AGENT }, { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls });
    await chat.sendMessage({ text: "2 + 3" });
    const { messages } = await api("GET", `/ai-sdk/chat/${chat.id}`);
    return { ...seen(chat), loaded: messages };
  },

  async clientTool() {
    const called = [];
    const chat = open(
      { agent_id: AGENT, tools: [WEATHER] },
      {
        sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithToolCalls,
        onToolCall({ toolCall }) {
          called.push(toolCall);
          if (toolCall.dynamic) return;
          chat.addToolOutput({ tool: toolCall.toolName, toolCallId: toolCall.toolCallId, output: { sky: "blue" } });
        },
      },
    );
    await chat.sendMessage({ text: "2 + 3" });
    await until(() => chat.status === "ready" && chat.lastMessage.parts.at(-1).type === "text");
    return { ...seen(chat), called };
  },

  async approval(approved) {
    const options = { sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses };
    const chat = open({ agent_id: ASKING_AGENT }, options);
    await chat.sendMessage({ text: "remember this" });
    const asked = chat.lastMessage.parts.find((part) => part.state === "approval-requested");
    const waiting = structuredClone(seen(chat));
    const reason = approved === "true" ? undefined : "not today";
    await chat.addToolApprovalResponse({ id: asked.approval.id, approved: approved === "true", reason });
    await until(() => chat.status === "ready" && chat.lastMessage.parts.at(-1).type === "text");
    return { waiting, ...seen(chat) };
  },

  async inventedApproval() {
    const chat = open({ agent_id: AGENT });
    await chat.sendMessage({ text: "2 + 3" });
    const before = structuredClone(chat.lastMessage);
    const invented = { type: "dynamic-tool", toolName: "save_note", toolCallId: "call_1", input: {} };
    chat.lastMessage.parts = [{ ...invented, state: "approval-responded", approval: { id: "call_1", approved: true } }];
    await chat.sendMessage();
    await idle(chat);
    const { messages } = await api("GET", `/ai-sdk/chat/${chat.id}`);
    return { ...seen(chat), before, after: messages.at(-1) };
  },

  async data() {
    const schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
    const agent = await api("POST", "/agents", { name: "Structured", model_name: "demo", output_schema: schema });
    const chat = open({ agent_id: agent.id });
    await chat.sendMessage({ text: "Rome" });
    return seen(chat);
  },

  async stop() {
    const chat = open();
    const sent = chat.sendMessage({ text: "hello" });
    await stopped(chat);
    await sent;
    return seen(chat);
  },

  async regenerate() {
    const chat = open();
    await chat.sendMessage({ text: "hello" });
    const first = chat.lastMessage.id;
    await chat.regenerate();
    const second = chat.lastMessage.id;
    await chat.regenerate({ messageId: second });
    const listed = await api("GET", `/chat/conversations/${chat.lastMessage.metadata.conversation_id}/messages`);
    return { first, second, third: chat.lastMessage.id, siblings: listed.items.at(-1).siblings, ...seen(chat) };
  },

  async edit() {
    const chat = open();
    await chat.sendMessage({ text: "one" });
    await chat.sendMessage({ text: "two" });
    await chat.sendMessage({ text: "deux", messageId: chat.messages[2].id });
    const second = structuredClone(seen(chat));
    await chat.sendMessage({ text: "un", messageId: chat.messages[0].id });
    const { messages } = await api("GET", `/ai-sdk/chat/${chat.id}`);
    return { second, ...seen(chat), loaded: messages };
  },

  // Leaves in the middle of a reply, as a closed tab does, and comes back with a new object, as a page that is loaded does.
  async resume() {
    const chat = open();
    const sent = chat.sendMessage({ text: "hello" });
    await until(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage).length > 20);
    const heard = textOf(chat.lastMessage);
    await chat.stop();
    await sent;
    const { messages } = await api("GET", `/ai-sdk/chat/${chat.id}`);
    const again = open({}, { id: chat.id, messages });
    await again.resumeStream();
    await idle(again);
    await again.resumeStream(); // nothing is under way any more
    return { heard, loaded: messages.length, ...seen(again) };
  },

  async error(body) {
    const chat = open(JSON.parse(body));
    await chat.sendMessage({ text: "hello" });
    return seen(chat);
  },

  // Streams until the connection breaks, then resumes once the server is back.
  async survive() {
    const chat = open({ agent_id: AGENT });
    const sent = chat.sendMessage({ text: "2 + 3" });
    await until(() => chat.lastMessage?.role === "assistant" && textOf(chat.lastMessage).length > 20);
    console.error("streaming");
    await sent;
    const broken = structuredClone(seen(chat));
    for (;;) {
      const alive = await fetch(`${BASE}/health`).then((response) => response.ok, () => false);
      if (alive) break;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    for (let tries = 0; tries < 20 && !/demo model/.test(textOf(chat.lastMessage)); tries += 1) {
      await chat.resumeStream();
      await idle(chat);
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
    const { messages } = await api("GET", `/ai-sdk/chat/${chat.id}`);
    return { broken, ...seen(chat), loaded: messages };
  },
});
