"""A trained model behind HTTP: a page, a REST interface, and the protocols of Ollama and OpenAI for photo libraries."""
