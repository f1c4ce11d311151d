// Upload 50 chats, fine-tune on them, follow the job, call the result.
// Needs OPENAI_BASE_URL and OPENAI_API_KEY, and nothing of Luthier's: the same file runs against OpenAI.
import { createReadStream } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const data = new URL("../../luthier/examples/misspell.jsonl", import.meta.url);
const client = new OpenAI();

const file = await client.files.create({ file: createReadStream(data), purpose: "fine-tune" });
let job = await client.fineTuning.jobs.create({
  model: process.env.MODEL ?? "smollm2-135m-instruct",
  training_file: file.id,
  suffix: "misspell",
});
console.log("job:", job.id);

const shown = new Set<string>();
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await sleep(1000);
  job = await client.fineTuning.jobs.retrieve(job.id);
  const events = await client.fineTuning.jobs.listEvents(job.id, { limit: 100 });
  for (const event of events.data.reverse()) {
    if (!shown.has(event.id)) console.log(event.message);
    shown.add(event.id);
  }
}

if (!job.fine_tuned_model) throw new Error(`${job.status}: ${job.error?.message}`);
console.log("model:", job.fine_tuned_model);

const stream = await client.chat.completions.create({
  model: job.fine_tuned_model,
  messages: [
    { role: "system", content: "misspell all words" },
    { role: "user", content: "What is the capital of Italy?" },
  ],
  stream: true,
});
process.stdout.write("answer: ");
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? "");
console.log();
