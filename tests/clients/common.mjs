// Shared by the scenarios: each program runs the one that its first argument names, and prints what the client saw as JSON.

export const { BASE, TOKEN, AGENT, ASKING_AGENT } = process.env;
export const headers = { Authorization: `Bearer ${TOKEN}` };

export async function run(scenarios) {
  const scenario = scenarios[process.argv[2]];
  if (scenario === undefined) throw new Error(`there is no scenario ${process.argv[2]}`);
  console.log(JSON.stringify(await scenario(...process.argv.slice(3)), (_name, value) => value ?? null));
  process.exit(0); // clients keep connections open
}

export async function api(method, path, body) {
  const response = await fetch(`${BASE}/api/v1${path}`, {
    method,
    headers: { ...headers, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) throw new Error(await response.text());
  return response.json();
}

export function until(isTrue) {
  return new Promise((resolve, reject) => {
    const began = Date.now();
    const timer = setInterval(() => {
      if (isTrue()) {
        clearInterval(timer);
        resolve();
      } else if (Date.now() - began > 30_000) {
        clearInterval(timer);
        reject(new Error("it took longer than 30 s"));
      }
    }, 10);
  });
}
