#!/usr/bin/env bash
# Upload 50 chats, fine-tune on them, wait, call the result. Needs curl, OPENAI_BASE_URL and OPENAI_API_KEY.
set -euo pipefail
: "${OPENAI_BASE_URL:?set it to the server, such as http://127.0.0.1:8000/v1}" "${OPENAI_API_KEY:?set it to a key}"

data="$(dirname "$0")/../../luthier/examples/misspell.jsonl"
model="${MODEL:-smollm2-135m-instruct}"

api() { curl --silent --show-error --fail-with-body -H "Authorization: Bearer $OPENAI_API_KEY" "$@"; }
# The value of a top-level text field of a JSON object; null and absent give nothing.
field() { python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1]) or "")' "$1"; }

file=$(api "$OPENAI_BASE_URL/files" -F purpose=fine-tune -F "file=@$data" | field id)
job=$(api "$OPENAI_BASE_URL/fine_tuning/jobs" -H "Content-Type: application/json" \
  -d "{\"model\": \"$model\", \"training_file\": \"$file\", \"suffix\": \"misspell\"}" | field id)
echo "job: $job"

status=validating_files
while [[ "$status" != succeeded && "$status" != failed && "$status" != cancelled ]]; do
  sleep 1
  now=$(api "$OPENAI_BASE_URL/fine_tuning/jobs/$job" | field status)
  [[ "$now" == "$status" ]] || echo "$now"
  status=$now
done
[[ "$status" == succeeded ]] || { api "$OPENAI_BASE_URL/fine_tuning/jobs/$job" | field error >&2; exit 1; }

tuned=$(api "$OPENAI_BASE_URL/fine_tuning/jobs/$job" | field fine_tuned_model)
echo "model: $tuned"
api "$OPENAI_BASE_URL/chat/completions" -H "Content-Type: application/json" -d @- <<JSON
{"model": "$tuned", "messages": [
  {"role": "system", "content": "misspell all words"},
  {"role": "user", "content": "What is the capital of Italy?"}]}
JSON
