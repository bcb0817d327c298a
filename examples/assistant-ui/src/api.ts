const API = "/api/v1";

export const session = {
  get token() {
    return sessionStorage.getItem("token") ?? "";
  },
  set token(value: string) {
    sessionStorage.setItem("token", value);
  },
};

export const headers = () => ({ Authorization: `Bearer ${session.token}` });

/** Calls the API; throws the sentence of its problem document. */
export async function call<T>(method: string, path: string, body?: object): Promise<T> {
  const json = body && { body: JSON.stringify(body) };
  return read(await fetch(API + path, { method, headers: { ...headers(), "Content-Type": "application/json" }, ...json }));
}

export async function logIn(email: string, password: string) {
  const form = new URLSearchParams({ username: email, password });
  const answer = await read<{ access_token: string }>(await fetch(`${API}/auth/login`, { method: "POST", body: form }));
  session.token = answer.access_token;
}

async function read<T>(response: Response): Promise<T> {
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail);
  return answer;
}
