"""The playground: a local page to steer a model live. Needs the extra `play` (Starlette and uvicorn)."""
