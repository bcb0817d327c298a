import { type FormEvent, useEffect, useState } from "react";
import { call, logIn, session } from "./api";
import { Chat, type Message } from "./Chat";

export function App() {
  const [isIn, setIn] = useState(session.token !== "");

  function leave() {
    session.token = "";
    setIn(false);
  }

  return isIn ? <Conversation leave={leave} /> : <LogIn done={() => setIn(true)} />;
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

type Agent = { id: string; name: string };
type Loaded = { id: string; messages: Message[] };

const begin = (): Loaded => ({ id: crypto.randomUUID(), messages: [] });

/** Shows the conversation that the address names, so that it is there again when the page is. */
function Conversation({ leave }: { leave: () => void }) {
  const [chat, setChat] = useState<Loaded | undefined>(location.hash ? undefined : begin);
  const [agents, setAgents] = useState<Agent[]>([]);
  const [agent, setAgent] = useState("");

  useEffect(() => {
    call<{ items: Agent[] }>("GET", "/agents").then((page) => setAgents(page.items), leave);
    if (chat === undefined) {
      call<Loaded>("GET", `/ai-sdk/chat/${location.hash.slice(1)}`).then(setChat, () => setChat(begin));
    }
  }, []);

  useEffect(() => {
    if (chat) location.hash = chat.id;
  }, [chat]);

  return (
    <>
      <header>
        <select value={agent} onChange={(event) => setAgent(event.target.value)} aria-label="Who answers">
          <option value="">The model</option>
          {agents.map(({ id, name }) => (
            <option key={id} value={id}>{name}</option>
          ))}
        </select>
        <button onClick={() => setChat(begin)}>New chat</button>
        <button onClick={leave}>Log out</button>
      </header>
      {chat && <Chat key={chat.id} {...chat} agentId={agent || null} onAgent={setAgent} />}
    </>
  );
}
