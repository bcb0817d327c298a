import { useChat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  getToolName,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  type UIMessage,
} from "ai";
import { type FormEvent, useEffect, useRef, useState } from "react";
import { call, headers } from "./api";

export type Message = UIMessage<{ agent_id?: string }>;
type Props = { id: string; messages: Message[]; agentId: string | null; onAgent: (id: string) => void };

const transport = new DefaultChatTransport({
  api: "/api/v1/ai-sdk/chat",
  headers,
  // The service has the history: the last message is enough, after the one that it follows.
  prepareSendMessagesRequest: ({ id, messages, trigger, messageId, body }) => ({
    body: { id, messages: messages.slice(-2), trigger, messageId, ...body },
  }),
});

export function Chat({ id, messages: loaded, agentId, onAgent }: Props) {
  const { messages, status, error, sendMessage, regenerate, addToolApprovalResponse } = useChat({
    id,
    messages: loaded,
    resume: true,
    transport,
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const options = { body: { agent_id: agentId } };
  const isBusy = status === "submitted" || status === "streaming";
  const last = messages.at(-1);
  // Nothing else is sent while a call waits: the client would no longer send the answer to it.
  const asks = last?.parts.some((part) => isToolUIPart(part) && part.state === "approval-requested") ?? false;
  const answering = last?.metadata?.agent_id;
  useEffect(() => {
    if (answering) onAgent(answering); // it goes on when the page is loaded again
  }, [answering]);
  const [text, setText] = useState("");
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    end.current?.scrollIntoView();
  }, [messages]);

  function send(event: FormEvent) {
    event.preventDefault();
    setText("");
    void sendMessage({ text }, options);
  }

  return (
    <>
      <main>
        {messages.map((message) => (
          <article key={message.id} className={message.role}>
            {message.parts.map((part, number) => {
              if (part.type === "text") return <p key={number}>{part.text}</p>;
              if (part.type === "reasoning") return <details key={number}><summary>Reasoning</summary>{part.text}</details>;
              if (!isToolUIPart(part)) return null;
              const name = getToolName(part);
              if (part.state !== "approval-requested") return <small key={number}>{name}: {part.state}</small>;
              const answer = (approved: boolean) => addToolApprovalResponse({ id: part.approval.id, approved, options });
              return (
                <fieldset key={number}>
                  <legend>May it call {name}?</legend>
                  <code>{JSON.stringify(part.input)}</code>
                  <button onClick={() => answer(true)}>Approve</button>
                  <button onClick={() => answer(false)}>Deny</button>
                </fieldset>
              );
            })}
          </article>
        ))}
        {error && <p role="alert">{sentence(error)}</p>}
        <div ref={end} />
      </main>
      <form onSubmit={send}>
        <input value={text} onChange={(event) => setText(event.target.value)} placeholder="Message" autoFocus />
        {isBusy && last?.role === "assistant" ? (
          <button type="button" onClick={() => call("POST", `/chat/messages/${last.id}/stop`, {})}>Stop</button>
        ) : (
          <button disabled={isBusy || asks || text.trim() === ""}>Send</button>
        )}
        <button type="button" disabled={isBusy || asks || last === undefined} onClick={() => regenerate(options)}>Regenerate</button>
      </form>
    </>
  );
}

/** Returns the sentence of a problem document, or of anything else that failed. */
function sentence(error: Error): string {
  try {
    return JSON.parse(error.message).detail;
  } catch {
    return error.message;
  }
}
