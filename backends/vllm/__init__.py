"""vLLM in this process: `backend.VLLMBackend`, set by `settings.VLLMSettings`. Needs the extra `vllm`."""
