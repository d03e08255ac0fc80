# docker build -t alexnet .                            CPU, about 350 MB
# docker build -t alexnet --build-arg EXTRA=server-tensorrt .   for NVIDIA GPUs (docs/gpu.md):
#   docker run --rm --gpus all -v alexnet:/cache -p 8000:8000 -p 8001:8001 -p 8002:8002 alexnet
# docker run --rm -p 8000:8000 -p 8001:8001 -p 8002:8002 alexnet
#
# To serve a bundle of one's own: -v $PWD/models:/app/models:ro and --model models/mine
# Nothing is written but plans and calibrations in /cache, and sockets of workers in /tmp:
# --read-only --tmpfs /tmp works, with or without -v alexnet:/cache.

ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG EXTRA=
WORKDIR /app
RUN python3 -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The dependencies change seldom and the code often: one layer each.
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY alexnet/__init__.py alexnet/__init__.py
COPY alexnet_client/pyproject.toml alexnet_client/README.md alexnet_client/LICENSE alexnet_client/
COPY alexnet_client/__init__.py alexnet_client/
# Process 1 ignores signals until it has a handler, and Python starts in 20 ms: dumb-init in 1.
RUN pip install --constraint constraints.txt \
    --editable ".${EXTRA:+[$EXTRA]}" --editable ./alexnet_client dumb-init
# The same module as onnxruntime, and has to be the last.
RUN case "$EXTRA" in *server-gpu*) \
    pip install --constraint constraints.txt --force-reinstall --no-deps onnxruntime-gpu ;; esac

FROM ${BASE}
LABEL org.opencontainers.image.title="AlexNet server" \
      org.opencontainers.image.description="Photos in, classes out, over REST and gRPC" \
      org.opencontainers.image.authors="the AlexNet server authors" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --system --gid 10001 alexnet \
    && useradd --system --uid 10001 --gid alexnet --no-create-home alexnet \
    && install -d -o alexnet -g alexnet /cache
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /venv /venv
COPY alexnet alexnet
COPY export export
COPY gpu gpu
COPY protos protos
COPY server server
COPY alexnet_client alexnet_client
COPY models models
COPY pyproject.toml LICENSE ./
# The root may be read-only: what Python would write at each start is here from the first.
RUN python3 -m compileall -q alexnet alexnet_client export gpu protos server
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
EXPOSE 8000 8001 8002
# In a container the host decides what is reachable: -p above.
ENV ALEXNET_HOST=0.0.0.0 ALEXNET_LOG_FORMAT=json ALEXNET_DRAIN_DELAY_S=5
# Plans and calibrations; a volume keeps them from one container to the next.
ENV ALEXNET_CACHE_DIR=/cache
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python3", "-m", "server.healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["dumb-init", "--single-child", "--", "alexnet-server"]
