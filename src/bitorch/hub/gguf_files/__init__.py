"""Low-bit language models as GGUF files, which llama.cpp runs."""
