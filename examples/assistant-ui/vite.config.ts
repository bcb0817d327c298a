import react from "@vitejs/plugin-react";
import { defineConfig, loadEnv } from "vite";

// The page and the API have one origin, so that no setting of the API is needed: `API_URL` says where the API is.
export default defineConfig(({ mode }) => {
  const proxy = { "/api": loadEnv(mode, ".", "API_URL").API_URL ?? "http://127.0.0.1:8000" };
  return { plugins: [react()], server: { proxy }, preview: { proxy } };
});
