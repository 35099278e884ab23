# livos on an NVIDIA GPU. PyTorch brings CUDA; Triton compiles its kernels with gcc when they first run.
#   docker build -t livos:cuda -f docker/cuda.Dockerfile .
#   docker run --rm --gpus all -v "$PWD:/work" livos:cuda segment video.mp4 --mask first.png
FROM python:3.13-slim-bookworm AS build
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY livos_cli livos_cli
COPY kernels kernels
RUN uv venv /opt/livos \
    && uv pip install --no-cache --python /opt/livos '.[ui]' \
    && uv pip uninstall --python /opt/livos opencv-python \
    && uv pip install --no-cache --python /opt/livos opencv-python-headless

FROM python:3.13-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/livos /opt/livos
RUN useradd --create-home --uid 1000 livos
ENV PATH=/opt/livos/bin:$PATH
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 1000
WORKDIR /work
ENTRYPOINT ["livos"]
