# Two stages: one that installs, one that runs. BASE is any image with Python 3.11 or newer and its venv module.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# Only wheels, only those whose hashes were pinned: nothing is compiled here, and nothing else can come.
COPY requirements-image.lock requirements-build.lock ./
RUN python3 -m venv /build \
 && /build/bin/python -m pip install --quiet --only-binary :all: --require-hashes -r requirements-build.lock \
 && python3 -m venv --without-pip /app \
 && /build/bin/python -m pip --python /app/bin/python install --quiet --no-compile --only-binary :all: \
      --require-hashes -r requirements-image.lock
COPY pyproject.toml README.md LICENSE ./
COPY gen gen
COPY messaging messaging
COPY providers providers
COPY gateway_grpc gateway_grpc
COPY dispatcher dispatcher
COPY ops ops
# Bytecode is made now and never checked against the source again: the root file system is read-only later, and no
# time of a file is in it.
ARG SOURCE_DATE_EPOCH=0
RUN /build/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /build/bin/python -m pip --python /app/bin/python install --quiet --no-compile --no-deps /wheel/*.whl \
 && rm -f /app/lib/python3*/site-packages/*.dist-info/direct_url.json \
 && /app/bin/python -m compileall -q -j 1 --invalidation-mode unchecked-hash /app/lib \
 && find /app -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE}
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sms-gateway" \
      org.opencontainers.image.description="Accepts text messages over gRPC and hands each to a provider at the rate that was bought" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /app /app
ENV PATH=/app/bin:/usr/local/bin:/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# A number, so that a cluster sees that it is not root.
USER 10001:10001
WORKDIR /
EXPOSE 50051 50052
# Kubernetes has probes of its own. Asks whether the process lives, not whether the stream answers.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["smsctl", "probe"]
ENTRYPOINT ["python"]
CMD ["-m", "gateway_grpc"]
