# The pipeline for machines with NVIDIA GPUs (the driver and the NVIDIA container toolkit are the
# host's; CUDA's libraries come with torch's wheels, so no CUDA base image is needed).
#
#   docker build -t deepsort-reid .
#   docker run --rm --gpus all --shm-size 1g --user "$(id -u):$(id -g)" \
#       -v "$PWD:/project" deepsort-reid
#   docker run --rm -p 5000:5000 --user "$(id -u):$(id -g)" -v "$PWD:/project" deepsort-reid \
#       mlflow ui --host 0.0.0.0
#
# The project's folder is the volume: params.yaml, the data, DVC's cache, the checkpoints and the
# MLflow store live there and outlast the container.

# Python 3.11.16 as its publishers recorded it on 2026-08-25 (docker-library/repo-info). For another:
# `docker buildx imagetools inspect python:3.11-slim-bookworm` prints the newest digest.
ARG BASE=python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

FROM ${BASE} AS dependencies
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/venv UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY pyproject.toml ./
# Triton only serves torch.compile, which the pipeline does not use, and nobody links the static
# libraries: 1.1 GB.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --no-dev --no-install-project --no-install-package triton --extra s3 --extra postgres \
    && find /opt/venv -name '*.a' -delete

FROM dependencies AS project
COPY README.md LICENSE params.yaml dvc.yaml ./
COPY pipeline pipeline
COPY recipes recipes
COPY src src
RUN --mount=type=cache,target=/root/.cache/uv uv build --wheel --out-dir /wheel

FROM ${BASE}
# git: DVC's experiments are commits. tini passes a signal on to all processes.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*' \
    && useradd --create-home --uid 1000 user
# The large layer, which only an edit of pyproject.toml changes; after it the small one.
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=project /wheel /tmp/wheel
RUN --mount=type=bind,from=dependencies,target=/mnt \
    /mnt/usr/local/bin/uv pip install --python /opt/venv --no-cache --no-deps --compile-bytecode \
    /tmp/wheel/*.whl
# A user of any number, whom the image does not know, has a name, and folders for the caches that
# libraries insist on.
ENV PATH=/opt/venv/bin:$PATH USER=user HOME=/home/user XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    GIT_AUTHOR_NAME=deepsort-reid GIT_AUTHOR_EMAIL=deepsort-reid@localhost \
    GIT_COMMITTER_NAME=deepsort-reid GIT_COMMITTER_EMAIL=deepsort-reid@localhost
USER user
WORKDIR /project
VOLUME /project
EXPOSE 5000
# As Ctrl-C: DVC waits until its stage has saved its state. Of SIGTERM it would die and leave the stage.
STOPSIGNAL SIGINT
ENTRYPOINT ["tini", "-g", "--"]
CMD ["dvc", "repro"]
