# CPU:  docker build -t sidestep . && docker run -v $PWD/runs:/app/runs sidestep
# CUDA: docker build -t sidestep:cuda --build-arg EXTRAS=dev,cuda . && docker run --gpus all -v $PWD/runs:/app/runs sidestep:cuda
FROM python:3.11-slim
ARG EXTRAS=dev
RUN apt-get update && apt-get install --yes --no-install-recommends make git && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE Makefile ./
RUN python -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes --requirement requirements.lock
COPY adapt adapt
COPY agents agents
COPY configs configs
COPY envs envs
RUN .venv/bin/pip install --no-cache-dir --no-build-isolation --editable ".[${EXTRAS}]" && touch .venv/installed
CMD ["make", "demo"]
