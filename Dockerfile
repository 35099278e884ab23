# livos on a CPU. Weights are built in: nothing is fetched when it runs.
#   docker build -t livos .
#   docker run --rm -v "$PWD:/work" livos segment video.mp4 --mask first.png
FROM python:3.13-slim-bookworm AS build
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /usr/local/bin/uv
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY livos_cli livos_cli
COPY kernels kernels
RUN uv venv /opt/livos \
    && uv pip install --no-cache --python /opt/livos --torch-backend cpu '.[ui]' \
    && uv pip uninstall --python /opt/livos opencv-python \
    && uv pip install --no-cache --python /opt/livos opencv-python-headless

FROM python:3.13-slim-bookworm
COPY --from=build /opt/livos /opt/livos
RUN useradd --create-home --uid 1000 livos
ENV PATH=/opt/livos/bin:$PATH
USER 1000
WORKDIR /work
ENTRYPOINT ["livos"]
