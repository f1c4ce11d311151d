// The Vercel AI SDK: chat completions and responses, whole and in a stream, a second turn, an object, a tool, embeddings.
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateObject, generateText, jsonSchema, streamText, tool } from "ai";

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const said = {};
for (const [name, model] of [["chat", openai.chat("gpt-4o-mini")], ["responses", openai("gpt-4o-mini")]]) {
  const whole = await generateText({ model, system: "Be brief.", prompt: "hello there", maxRetries: 0 });
  const again = { role: "user", content: "and again" };
  const talk = [{ role: "user", content: "hello there" }, ...whole.response.messages, again];
  const second = await generateText({ model, messages: talk, maxRetries: 0 });
  const pieces = [];
  for await (const piece of streamText({ model, prompt: "hello there", maxRetries: 0 }).textStream) pieces.push(piece);
  const schema = jsonSchema({
    type: "object",
    properties: { echo: { type: "string" } },
    required: ["echo"],
    additionalProperties: false,
  });
  const { object } = await generateObject({ model, schema, prompt: "hello there", maxRetries: 0 });
  const look = tool({ description: "looks", inputSchema: jsonSchema({ type: "object", properties: {} }) });
  const called = await generateText({
    model,
    prompt: "look",
    tools: { look },
    toolChoice: "required",
    maxRetries: 0,
  });
  said[name] = {
    whole: whole.text,
    second: second.text,
    tokens: whole.usage.totalTokens,
    stream: pieces.join(""),
    object,
    tools: called.toolCalls.map((call) => call.toolName),
  };
}
const { embeddings } = await embedMany({ model: openai.embedding("gpt-4o-mini"), values: ["a", "b"], maxRetries: 0 });
said.embeddings = embeddings.length;
console.log(JSON.stringify(said));
