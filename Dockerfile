# docker build -t alexnet .                            CPU, about 350 MB
# docker build -t alexnet --build-arg EXTRA=server-tensorrt .   for NVIDIA GPUs (docs/gpu.md):
#   docker run --rm --gpus all -v alexnet:/cache -p 8000:8000 -p 8001:8001 -p 8002:8002 alexnet
# docker run --rm -p 8000:8000 -p 8001:8001 -p 8002:8002 alexnet
#
# To serve a bundle of one's own: -v $PWD/models:/app/models:ro and --model models/mine

FROM python:3.11-slim AS build
ARG EXTRA=server
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The dependencies change seldom and the code often: one layer each.
COPY pyproject.toml constraints.txt README.md ./
COPY alexnet/__init__.py alexnet/__init__.py
RUN pip install --constraint constraints.txt --editable ".[$EXTRA,client]"

FROM python:3.11-slim
RUN useradd --system --uid 10001 --no-create-home alexnet && install -d -o alexnet /cache
WORKDIR /app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /venv /venv
COPY alexnet alexnet
COPY export export
COPY gpu gpu
COPY protos protos
COPY server server
COPY clients clients
COPY models models
USER alexnet
EXPOSE 8000 8001 8002
# In a container the host decides what is reachable: -p above.
ENV ALEXNET_HOST=0.0.0.0 ALEXNET_LOG_FORMAT=json ALEXNET_DRAIN_DELAY_S=5
# Plans and calibrations; a volume keeps them from one container to the next.
ENV ALEXNET_CACHE_DIR=/cache
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8002/readyz')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["alexnet-server"]
