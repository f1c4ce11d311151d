"""OpenAI's words on the wire. Thin: parse, call the domain, print."""
