import { AssistantRuntimeProvider } from "@assistant-ui/react";
import { useChatRuntime } from "@assistant-ui/react-ai-sdk";
import { DefaultChatTransport, lastAssistantMessageIsCompleteWithApprovalResponses } from "ai";
import { type FormEvent, useState } from "react";
import { headers, logIn, session } from "./api";
import { Thread } from "./Thread";

const begun = new Set<string>();

const transport = new DefaultChatTransport({
  api: "/api/v1/ai-sdk/chat",
  headers,
  // The service has the history: the last message is enough, after the one that it follows. Where nothing stands before
  // it although the chat has begun, it is the first one, edited.
  prepareSendMessagesRequest: ({ id, messages, trigger, messageId }) => {
    const replaced = begun.has(id) && messages.length === 1 && trigger === "submit-message" ? messages[0]?.id : messageId;
    begun.add(id);
    return { body: { id, messages: messages.slice(-2), trigger, messageId: replaced } };
  },
});

export function App() {
  const [isIn, setIn] = useState(session.token !== "");
  return isIn ? <Assistant /> : <LogIn done={() => setIn(true)} />;
}

function Assistant() {
  const sendAutomaticallyWhen = lastAssistantMessageIsCompleteWithApprovalResponses;
  const runtime = useChatRuntime({ transport, sendAutomaticallyWhen });
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <Thread />
    </AssistantRuntimeProvider>
  );
}

function LogIn({ done }: { done: () => void }) {
  const [error, setError] = useState("");

  async function submit(event: FormEvent<HTMLFormElement>) {
    event.preventDefault();
    const { email, password } = Object.fromEntries(new FormData(event.currentTarget)) as Record<string, string>;
    await logIn(email!, password!).then(done, (reason: Error) => setError(reason.message));
  }

  return (
    <form className="login" onSubmit={submit}>
      <h1>Log in</h1>
      <input name="email" type="email" placeholder="E-mail address" autoComplete="username" required />
      <input name="password" type="password" placeholder="Password" autoComplete="current-password" required />
      <button>Log in</button>
      {error && <p role="alert">{error}</p>}
    </form>
  );
}
