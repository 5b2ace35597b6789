# innerloop on a CPU, without Ray, learn2learn and transformers: docker build -t innerloop . && docker run -v "$PWD/outputs:/innerloop/outputs" innerloop
FROM python:3.12-slim
RUN apt-get update && apt-get install -y --no-install-recommends g++ git make && rm -rf /var/lib/apt/lists/*
WORKDIR /innerloop
COPY pyproject.toml requirements.txt Makefile README.md LICENSE ./
COPY src ./src
# PyTorch's build for CPUs, without the libraries for GPUs
ENV UV_TORCH_BACKEND=cpu PATH=/innerloop/.venv/bin:$PATH
RUN make install-light
COPY . .
ENTRYPOINT ["python", "train.py"]
