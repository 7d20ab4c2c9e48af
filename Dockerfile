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

FROM python:3.11-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PROJECT_ENVIRONMENT=/opt/venv
WORKDIR /build
# Dependencies first: an edit of the code leaves this layer, the large one, as it was.
COPY pyproject.toml ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --no-dev --no-install-project --extra s3 --extra postgres
COPY README.md LICENSE params.yaml dvc.yaml ./
COPY pipeline pipeline
COPY recipes recipes
COPY src src
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --no-dev --no-editable --extra s3 --extra postgres

FROM python:3.11-slim-bookworm
# git: DVC's experiments are commits. tini passes signals on, so that `docker stop` ends a run well.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git tini \
    && rm -rf /var/lib/apt/lists/* \
    && git config --system --add safe.directory '*' \
    && useradd --create-home --uid 1000 user
COPY --from=build /opt/venv /opt/venv
# A user of any number, whom the image does not know, has a name, and folders for the caches that
# libraries insist on.
ENV PATH=/opt/venv/bin:$PATH USER=user HOME=/home/user XDG_CACHE_HOME=/tmp/cache MPLCONFIGDIR=/tmp/matplotlib \
    GIT_AUTHOR_NAME=deepsort-reid GIT_AUTHOR_EMAIL=deepsort-reid@localhost \
    GIT_COMMITTER_NAME=deepsort-reid GIT_COMMITTER_EMAIL=deepsort-reid@localhost
USER user
WORKDIR /project
VOLUME /project
EXPOSE 5000
ENTRYPOINT ["tini", "-g", "--"]
CMD ["dvc", "repro"]
